// Package freeport chooses ports for servers that tests start and that other servers, or a later start, must know beforehand.
//
// It is not for anything but tests, and not for a server that can listen on port 0 and say where.
//
// How data passes: every call draws from a range below the one that the system hands out by itself, so that no connection and no
// listener on port 0 takes a port between its choice and its use, or while its server is down.
//
// Invariants: a port is chosen once by all processes that use this package at the same time: each is claimed by the name of a
// socket, which is held until the process ends.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The range. Linux hands out ports from 32768 on.
const (
	first = 12000
	last  = 31999
)

// claims keeps the claimed names: a listener that nobody refers to is closed by the garbage collector.
var claims struct {
	sync.Mutex
	held []net.Listener
}

// T is the part of testing.TB that is used here.
type T interface {
	Helper()
	Fatal(args ...any)
}

// Port chooses a port of 127.0.0.1 on which nobody listens.
func Port(t T) int {
	t.Helper()
	for range 2000 {
		port := first + rand.IntN(last-first+1)
		claim, err := net.Listen("unix", fmt.Sprintf("@quorate-test-port-%d", port))
		if err != nil {
			continue // another test has it
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			_ = claim.Close()
			continue
		}
		_ = l.Close()
		claims.Lock()
		claims.held = append(claims.held, claim)
		claims.Unlock()
		return port
	}
	t.Fatal("no free port from ", first, " to ", last)
	return 0
}

// Address is 127.0.0.1 with a Port, as host:port.
func Address(t T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", Port(t))
}
