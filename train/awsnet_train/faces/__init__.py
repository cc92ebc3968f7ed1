"""Synthetic faces whose action units are known, because they were put there.

head.py       the mesh and its targets, read from head.npz
actions.py    action units as blend shapes and wrinkles; emotions as action units
person.py     who is seen: shape and colours of one identity
rasterise.py  which triangle is seen where
render.py     a person with an expression, in a scene, as pixels
write.py      folders of faces with their labels
"""
