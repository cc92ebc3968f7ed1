//! What the control groups of a process leave it of their memory: a container's limit, which /proc/meminfo does not know.
//!
//! Linux kills a process that goes beyond the limit of its group, or of one above it, so all of them count, of version 2
//! (`memory.max`) and of version 1 (`memory.limit_in_bytes`); see the kernel's documentation, admin-guide/cgroup-v2.rst and
//! cgroup-v1/memory.rst. Pages of files that nobody has used for a while (`inactive_file`) count as used there and are given
//! back before anyone is killed.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The files of a version that say it.
struct Version {
    /// Of the file system, in mountinfo.
    kind: &'static str,
    limit: &'static str,
    used: &'static str,
    /// A key of memory.stat.
    reclaimable: &'static str,
}

const V2: Version =
    Version { kind: "cgroup2", limit: "memory.max", used: "memory.current", reclaimable: "inactive_file" };
const V1: Version = Version {
    kind: "cgroup",
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};

/// Bytes that the process may still take before a group of its is at its limit; `None` where no group has one.
pub(super) fn available_bytes() -> Option<u64> {
    below(Path::new("/"))
}

/// As [`available_bytes`], of a system whose files stand below `root`.
fn below(root: &Path) -> Option<u64> {
    let groups = read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = read_to_string(root.join("proc/self/mountinfo")).ok()?;
    groups.lines().filter_map(|line| of_hierarchy(root, line, &mounts)).min()
}

/// Of the hierarchy that a line of /proc/self/cgroup names: `4:memory:/a/b`, `0::/a/b` of version 2.
fn of_hierarchy(root: &Path, line: &str, mounts: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, parts.next()?);
    let version = match controllers {
        "" => &V2,
        list if list.split(',').any(|controller| controller == "memory") => &V1,
        _ => return None,
    };
    let (top, mut folder) = mounts.lines().find_map(|mount| mounted(root, mount, version, group))?;
    let mut least: Option<u64> = None;
    loop {
        least = left(&folder, version).into_iter().chain(least).min();
        if folder == top || !folder.pop() {
            return least;
        }
    }
}

/// Where a line of mountinfo has mounted a version's hierarchy, and the group's folder there:
/// `36 35 98:0 /root /mount options... - cgroup cgroup rw,memory`.
fn mounted(root: &Path, mount: &str, version: &Version, group: &str) -> Option<(PathBuf, PathBuf)> {
    let (before, behind) = mount.split_once(" - ")?;
    let mut behind = behind.split(' ');
    let (kind, options) = (behind.next()?, behind.nth(1)?);
    if kind != version.kind || (kind == V1.kind && !options.split(',').any(|option| option == "memory")) {
        return None;
    }
    let mut before = before.split(' ').skip(3);
    let (from, at) = (before.next()?, before.next()?);
    let top = root.join(at.strip_prefix('/')?);
    // A container may see its own group mounted as the top, under the name that it has outside.
    let inside = Path::new(group).strip_prefix(from).unwrap_or(Path::new(""));
    let folder = top.join(inside.strip_prefix("/").unwrap_or(inside));
    Some(if folder.is_dir() { (top, folder) } else { (top.clone(), top) })
}

/// What one group leaves; `None` where it has no limit.
fn left(folder: &Path, version: &Version) -> Option<u64> {
    let number = |name: &str| read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number(version.limit)?;
    let used = number(version.used)?;
    let stat = read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let reclaimable =
        stat.lines().find_map(|line| line.strip_prefix(version.reclaimable)?.trim().parse().ok());
    Some(limit.saturating_sub(used.saturating_sub(reclaimable.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system with these files, and what it leaves.
    fn system(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        below(root.path())
    }

    const UNIFIED: (&str, &str) = (
        "proc/self/mountinfo",
        "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    );
    const LEGACY: (&str, &str) = (
        "proc/self/mountinfo",
        "30 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n31 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    );

    #[test]
    fn every_group_above_counts() {
        let at = |max: &str, current: &str, parent: &str| {
            system(&[
                UNIFIED,
                ("proc/self/cgroup", "0::/pod/app\n"),
                ("sys/fs/cgroup/pod/app/memory.max", max),
                ("sys/fs/cgroup/pod/app/memory.current", current),
                ("sys/fs/cgroup/pod/app/memory.stat", "anon 5\nactive_file 7\ninactive_file 20\n"),
                ("sys/fs/cgroup/pod/memory.max", parent),
                ("sys/fs/cgroup/pod/memory.current", "300"),
            ])
        };
        assert_eq!(at("max\n", "100\n", "max"), None);
        assert_eq!(at("1000\n", "100\n", "max\n"), Some(920));
        assert_eq!(at("1000\n", "100\n", "500\n"), Some(200));
        assert_eq!(at("max\n", "100\n", "500\n"), Some(200));
        assert_eq!(at("90\n", "200\n", "max\n"), Some(0));
    }

    #[test]
    fn the_old_version_and_both_at_once() {
        let files = [
            ("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "314572800\n"),
            ("sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "14572800\n"),
            ("sys/fs/cgroup/memory/docker/x/memory.stat", "inactive_file 9\ntotal_inactive_file 1000\n"),
        ];
        let groups = ("proc/self/cgroup", "9:cpu:/\n4:memory:/docker/x\n0::/\n");
        assert_eq!(system(&[&[LEGACY, groups][..], &files].concat()), Some(300_001_000));
        let both = "4:memory:/docker/x\n0::/\n";
        let mounts = format!("{}{}", LEGACY.1, "40 25 0:30 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n");
        let mixed = [
            ("proc/self/mountinfo", &*mounts),
            ("proc/self/cgroup", both),
            ("sys/fs/cgroup/unified/memory.max", "1000"),
            ("sys/fs/cgroup/unified/memory.current", "1"),
        ];
        assert_eq!(system(&[&mixed[..], &files].concat()), Some(999));
    }

    /// In a container the group is the top of what is mounted, whatever it is called outside.
    #[test]
    fn a_container_sees_its_own_group_as_the_top() {
        let limits = [
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "500"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "100"),
        ];
        for (mounts, groups) in [
            ("31 25 0:28 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory", "4:memory:/docker/x"),
            ("31 25 0:28 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory", "4:memory:/"),
            ("31 25 0:28 /../.. /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory", "4:memory:/gone/away"),
        ] {
            let system = system(
                &[&[("proc/self/mountinfo", mounts), ("proc/self/cgroup", groups)][..], &limits].concat(),
            );
            assert_eq!(system, Some(400), "{mounts}");
        }
    }

    #[test]
    fn a_system_without_groups_has_no_limit() {
        for files in [
            &[][..],
            &[UNIFIED],
            &[UNIFIED, ("proc/self/cgroup", "")],
            &[UNIFIED, ("proc/self/cgroup", "nonsense\n0:\n:::\n0::/a\n")],
            &[("proc/self/cgroup", "0::/\n"), ("proc/self/mountinfo", "1 2 3\n - \n")],
            &[UNIFIED, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "many")],
        ] {
            assert_eq!(system(files), None, "{files:?}");
        }
    }
}
