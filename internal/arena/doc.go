// Package arena keeps many small things out of the garbage collector's pointer graph: byte strings in slabs, structs without
// pointers in slots, both named by numbers instead of pointers. A million of them cost the collector some thousand objects
// without pointers, and cost memory little beside their own bytes.
//
// It is not a general allocator: there is one writer, and what a name stands for is the user's to know. It has no lock, no
// goroutine and no clock.
//
// Data passes like this. The writer puts a string into Slabs and keeps its Ref in an atomic field of the string's owner;
// readers load the field and get the bytes as an ordinary slice, which the collector keeps valid however long they hold it,
// because no byte is ever overwritten. Slabs that became sparse are emptied: what lives in them is copied and the owner gets
// a new Ref, so a reader that finds its Ref's slab gone loads the field again. The writer gives out slots by handle; a slot
// that was freed is given out again only when no reader can hold its handle, which Eras tell: every published picture of
// the data refers to the Era in which it was made, and the collector reports when an Era and all before it are out of reach.
//
// Invariants:
//   - A Ref leads to exactly the bytes it was made for, or to nothing; never to other bytes.
//   - A handle found in what was published in some era means the same slot while anything of that era is in reach.
//   - Memory of slabs is at most an eighth above the live strings, plus a constant, plus what readers hold.
package arena
