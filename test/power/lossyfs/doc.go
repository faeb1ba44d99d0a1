// Package lossyfs is a file system in memory that loses, when its power is cut, everything that was not synced. It is mounted
// through FUSE, so any process can keep its data there without knowing.
//
// It is not a store for anything of value, and no model of one real file system: it does what POSIX allows a file system to
// do, and of that the worst. What a write, truncation, creation, renaming or removal has changed is seen at once and is lost
// when the power is cut, unless
//
//   - the file was synced (fsync, fdatasync) since it was written or truncated, or is open with O_SYNC or O_DSYNC: then each
//     write is durable when it returns, and no other write with it;
//   - the directory was synced since the entry was made, renamed or removed. Syncing a file does not make its name durable.
//
// A cut may keep some of what was not synced, as disks do: any sectors (512 bytes) of any unsynced write in any order, any
// changes of directories, but those of one name or one file only in their order, and a renaming wholly or not at all.
//
// Data passes so: the kernel asks (fuse.go), every operation goes through the same gate, which is where the disk hangs, fails
// or has no power (disk.go), and changes the live state and notes the change (file.go, dir.go); a sync applies noted changes to
// the durable state; a cut drops them, and the durable state becomes the live one.
//
// Invariants: the kernel caches nothing, neither data nor names, so what a process sees is always the live state. The durable
// state changes only in a sync, in a write to a file opened for synchronous writes, and in a cut.
package lossyfs
