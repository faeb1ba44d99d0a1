// Package load puts a server under load and measures it: workloads in the shape of what etcd's clients do, at full speed or
// on a fixed schedule, with latencies that hide nothing.
//
// It is not a test of correctness, though an answer that cannot be right counts as an error, and it starts no server: any
// endpoint that speaks etcd's v3 API will do.
//
// How data passes: Run resolves Options, opens the connections (package load/lean) and makes one slot per request that may be
// under way. A slot owns a job, which writes requests and judges answers. In a closed loop a slot sends its next request from
// the completion of the last one; in an open loop the pacer takes free slots on schedule. What completed goes to the recorder of
// its connection; recorders are merged when the run ends, and every second into the timeline. Run returns a Result, which
// renders itself as JSON, a table, a plot or an SVG.
//
// Invariants: in an open loop latency counts from the instant at which a request was meant to start, whether or not the server
// was keeping up, so a stall is seen by every request it delays; requests that were late or never sent are counted; memory is
// fixed once a run has begun, whatever the server does; a percentile is within 1% of the exact one.
package load
