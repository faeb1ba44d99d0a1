// Package insight is what a member tells operators beyond metrics: the answers of GET /quorate/report and GET /quorate/top, as
// programs read them, and the accounting behind the second.
//
// It is not monitoring: metrics (package httpapi) are for that. It serves nothing and authorises nobody; package server does.
// Nothing here is kept when nobody looks.
//
// How data passes: a request for /quorate/top opens a look at the Desk for some seconds. While there is one, the services ask
// the Desk for each call whether it is to be counted, and record it when it has ended; Look returns the sums.
//
// Invariants: without a look a call costs one atomic load; with looks, at most limits.TopCallsPerSecond calls are recorded, each
// chosen by chance and counted for those that were not; a look holds a bounded number of names (limits.Top*) of bounded length,
// however many there are.
package insight
