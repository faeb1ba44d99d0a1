// Package world runs a whole cluster in one goroutine under a seed: the real log, engine, state machine, raft host, leader's duties
// and watches of one to seven members, on simulated disks, clocks and a simulated network, with a fleet of clients, and faults,
// while members come and go and are upgraded.
//
// It is not the server: there are no sockets, and what rpc and server do is done here by plain calls. It judges nothing itself but
// has internal/check do that.
//
// Data passes through one queue of events, ordered by simulated time and then by when they were made. An event may be a tick, the
// arrival of a message, a client's request, or a step that a member has work for: a turn of its raft loop, a write of its log,
// an apply. Each step comes after a delay drawn from the seed, so every order that goroutines could take can come about.
//
// Invariants: nothing depends on the machine's clock, on the order of a map, or on any randomness but the seed's; so the same seed and
// settings give the same events. A member is only ever entered through its own events, so a killed or paused member does nothing.
package world
