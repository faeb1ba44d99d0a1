package freeport_test

import (
	"net"
	"runtime"
	"testing"

	"quorate.dev/quorate/internal/freeport"
)

// TestClaims: a port is not chosen twice, however often memory is collected, and can be listened on.
func TestClaims(t *testing.T) {
	seen := map[string]bool{}
	for i := range 300 {
		address := freeport.Address(t)
		if seen[address] {
			t.Fatalf("%s is chosen twice", address)
		}
		seen[address] = true
		if i%20 == 0 {
			runtime.GC()
		}
	}
	runtime.GC()
	for address := range seen {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		if l, err := net.Listen("unix", "@quorate-test-port-"+port); err == nil {
			_ = l.Close()
			t.Fatalf("the claim of port %s is lost", port)
		}
	}
	l, err := net.Listen("tcp", freeport.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}
