// Programmatic dependent launch: a kernel may start while the one before it in the graph still runs.
//
// Every thread of every kernel calls await_predecessor() once, before it leaves and before it touches any memory that a
// kernel writes. Until then it reads its parameters and memory that no kernel ever writes (weights, bias, mix), and
// writes none. Behind it everything is as if the kernels ran one after the other, and that by two facts:
//
// - The kernel before this one has ended, and what it wrote is visible.
// - So have all kernels before that one, because each of them has waited as well. A kernel that did not, even one that
//   reads nothing of its predecessor, would end before it, and its successor would overwrite memory still in use: maps
//   share an arena, and split reductions a workspace.
//
// The next kernel is let in right behind the wait: once all blocks of this one are under way, it takes what room they
// leave and fetches its weights. Earlier, a third kernel could come in and take that room while it has nothing to do.
#pragma once
#include <device/ptx.h>

DEVICE void await_predecessor() {
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
}
