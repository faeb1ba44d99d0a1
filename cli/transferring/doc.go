// Package transferring is the command line of import and export: data from etcd, and back (package transfer).
//
// It does not know formats. It reads flags, finds out what --from names (a directory, a file, or servers, of which it fetches a
// snapshot), shows how far the work is, and prints the report.
//
// Invariants: what was fetched from a server is removed at the end, also after a failure; nothing that is there is ever written over.
package transferring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/internal/etcdwal"
	"quorate.dev/quorate/restore"
	"quorate.dev/quorate/transfer"
)

// Verbs are import and export.
func Verbs() []cli.Verb { return []cli.Verb{new(importing).verb(), new(exporting).verb()} }

// parseID reads an id as it is printed.
func parseID(flag, text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	id, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 64)
	if err != nil || id == 0 {
		return 0, cli.Failf(cli.ExitBadArgs, "--%s is %q, which is no id: it has up to 16 hexadecimal digits", flag, text)
	}
	return id, nil
}

func clusterID(text string) (ids.ClusterID, error) {
	id, err := parseID("cluster-id", text)
	return ids.ClusterID(id), err
}

// isEndpoints says whether --from names servers.
func isEndpoints(from string) bool {
	for _, part := range strings.Split(from, ",") {
		if strings.Contains(part, "://") {
			continue
		}
		host, port, ok := strings.Cut(part, ":")
		if n, err := strconv.Atoi(port); !ok || host == "" || strings.ContainsAny(host, "/\\") || err != nil || n < 1 || n > 65535 {
			return false
		}
	}
	return from != ""
}

// remedied adds what can be done about an error.
func remedied(s *cli.Session, err error) error {
	if err == nil {
		return nil
	}
	if ctx := s.Process.Context; ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return fmt.Errorf("stopped (%w); nothing was left behind", err)
	}
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "transfer: "), "restore: ")
	next := ""
	var sum *restore.ChecksumError
	var wal *etcdwal.DamageError
	var db *etcddb.DamageError
	switch {
	case errors.As(err, &sum) && sum.Missing && sum.Damage == nil:
		next = "A file that was copied out of a data directory has no checksum: if it was, and the server did not run, give --skip-hash-check; or import the directory."
	case errors.Is(err, transfer.ErrLive), errors.Is(err, etcdwal.ErrLocked):
		next = "Stop that process first: what it writes during the import would be lost. Or import from it over the network (--from http://HOST:2379)."
	case errors.As(err, &wal), errors.As(err, &db), errors.As(err, &sum):
		next = "Nothing was written. Take another copy, or another member of the cluster: each has all the data."
	case errors.Is(err, restore.ErrOccupied):
		next = "Nothing is ever written over: name another directory, or move that one away."
	case errors.Is(err, fs.ErrPermission):
		next = "Run this as the user that the server runs as."
	}
	if next != "" {
		next = "\n  " + next
	}
	return &explained{text + next, err}
}

// explained is an error with what can be done about it.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// peakMemory is the most memory that this process ever held, bytes; 0 where that cannot be told.
func peakMemory() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(b), "VmHWM:")
	if !ok {
		return 0
	}
	var kib int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
		return 0
	}
	return kib << 10
}
