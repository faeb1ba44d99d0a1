// Command million measures quorate import and export with a large directory of a real etcd: time, memory, and that a run that was
// killed half way can be repeated.
//
// It fills an etcd over its API, asks it for HashKV, imports its directory, kills a second import in the middle and runs it
// again, asks a server of ours on the result for the same HashKV, exports that, and asks an etcd on the export.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/test/compat/proc"
)

// load is what the etcd is filled with.
type load struct {
	keys, value, writers int
}

// result is what was measured.
type result struct {
	Made       time.Time
	Keys       int
	ValueBytes int
	Revision   int64
	HashKV     uint32
	DBBytes    int64
	FillSecs   float64
	Import     run
	Killed     float64 `json:"KilledAfterSeconds"`
	Again      run
	Export     run
	Equal      string
}

// run is one verb.
type run struct {
	Seconds   float64
	PeakBytes int64
	Report    json.RawMessage
}

const perTxn = 120 // puts; etcd takes 128

func main() {
	var l load
	flag.IntVar(&l.keys, "keys", 1_000_000, "keys")
	flag.IntVar(&l.value, "value", 256, "bytes of a value")
	flag.IntVar(&l.writers, "writers", 8, "clients that fill the etcd")
	out := flag.String("out", "", "file for the result, JSON")
	dir := flag.String("dir", "", "where to work; the default is a temporary directory that is removed")
	flag.Parse()
	err := measure(l, *dir, *out)
	proc.Cleanup()
	if err != nil {
		fmt.Fprintln(os.Stderr, "million:", err)
		os.Exit(1)
	}
}

func measure(l load, dir, out string) error {
	if dir == "" {
		temp, err := os.MkdirTemp("", "million-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp)
		dir = temp
	}
	r := result{Made: time.Now().UTC(), Keys: l.keys, ValueBytes: l.value}
	source := filepath.Join(dir, "etcd")
	if err := r.fill(l, source); err != nil {
		return err
	}
	if err := r.imports(filepath.Join(source, "data"), dir); err != nil {
		return err
	}
	if err := r.sameAt(proc.Quorate, dir, "again"); err != nil {
		return err
	}
	if err := r.exports(dir); err != nil {
		return err
	}
	if err := r.sameAt(proc.Etcd, dir, "back"); err != nil {
		return err
	}
	r.Equal = "HashKV equal at the source, at ours, and at an etcd on the export"
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	b = bytes.ReplaceAll(b, []byte(dir), []byte("DIR")) // where it was made says nothing
	fmt.Println(string(b))
	if out == "" {
		return nil
	}
	return os.WriteFile(out, append(b, '\n'), 0o644)
}

// fill makes the directory.
func (r *result) fill(l load, dir string) error {
	began := time.Now()
	s, err := proc.Start(proc.Etcd, dir, "--quota-backend-bytes=8589934592", "--max-txn-ops=128", "--unsafe-no-fsync")
	if err != nil {
		return err
	}
	defer s.Kill()
	kv := pb.NewKVClient(s.Conn())
	ctx := context.Background()
	if _, err := pb.NewLeaseClient(s.Conn()).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 100_000}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, l.writers)
	for w := range l.writers {
		wg.Go(func() {
			for first := w * perTxn; first < l.keys && errs[w] == nil; first += l.writers * perTxn {
				_, errs[w] = kv.Txn(ctx, &pb.TxnRequest{Success: puts(first, min(first+perTxn, l.keys), l.value)})
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	last := int64(0)
	for first := 0; first < l.keys/20; first += perTxn { // some of them once more, so that a compaction takes something away
		t, err := kv.Txn(ctx, &pb.TxnRequest{Success: puts(first, first+perTxn, l.value/2)})
		if err != nil {
			return err
		}
		last = t.Header.Revision
	}
	if _, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: last - 10, Physical: true}); err != nil {
		return err
	}
	if r.HashKV, r.Revision, err = hashKV(s, 0); err != nil {
		return err
	}
	if err := s.Stop(); err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(s.DataDir(), "member", "snap", "db"))
	if err != nil {
		return err
	}
	r.DBBytes, r.FillSecs = info.Size(), time.Since(began).Seconds()
	fmt.Printf("filled: revision %d, db of %d bytes, %.0f s\n", r.Revision, r.DBBytes, r.FillSecs)
	return nil
}

func puts(from, to, size int) (ops []*pb.RequestOp) {
	for i := from; i < to; i++ {
		value := []byte(strings.Repeat(fmt.Sprintf("%08d", i*2654435761%100_000_000), size/8+1)[:size])
		put := &pb.PutRequest{Key: fmt.Appendf(nil, "/registry/pods/namespace-%03d/pod-%08d", i%500, i), Value: value}
		if i%100 == 0 {
			put.Lease = 7
		}
		ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
	}
	return ops
}

func hashKV(s *proc.Server, rev int64) (uint32, int64, error) {
	r, err := pb.NewMaintenanceClient(s.Conn()).HashKV(context.Background(), &pb.HashKVRequest{Revision: rev})
	if err != nil {
		return 0, 0, err
	}
	return r.Hash, r.HashRevision, nil
}

// imports imports, once undisturbed, and once killed half way and again.
func (r *result) imports(source, dir string) (err error) {
	if r.Import, err = verb(0, "import", "--from", source, "--data-dir", filepath.Join(dir, "once")); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, "once")); err != nil {
		return err
	}
	target := filepath.Join(dir, "again", "data")
	r.Killed = r.Import.Seconds / 2
	if _, err := verb(r.Killed, "import", "--from", source, "--data-dir", target); err == nil {
		return errors.New("the import was to be killed and ended by itself")
	}
	if _, err := os.Stat(target); err == nil {
		return errors.New("a killed import left a directory under the final name")
	}
	r.Again, err = verb(0, "import", "--from", source, "--data-dir", target)
	return err
}

func (r *result) exports(dir string) (err error) {
	r.Export, err = verb(0, "export", "--from", filepath.Join(dir, "again", "data"), "--to-etcd", filepath.Join(dir, "back", "data"))
	return err
}

// verb runs one of ours, and kills it after so many seconds unless they are 0.
func verb(kill float64, args ...string) (r run, err error) {
	bin, err := proc.Binary(proc.Quorate)
	if err != nil {
		return r, err
	}
	cmd := exec.Command(bin, append(args, "-w", "json")...)
	cmd.Stderr = os.Stderr
	var text strings.Builder
	cmd.Stdout = &text
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return r, err
	}
	if kill > 0 {
		defer time.AfterFunc(time.Duration(kill*float64(time.Second)), func() { _ = cmd.Process.Kill() }).Stop()
	}
	err = cmd.Wait()
	r.Seconds = time.Since(began).Seconds()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.PeakBytes = usage.Maxrss << 10
	}
	fmt.Printf("%s: %.1f s, %d MiB (%v)\n", args[0], r.Seconds, r.PeakBytes>>20, cmd.ProcessState)
	r.Report = json.RawMessage(text.String())
	return r, err
}

// sameAt starts a server on a directory and compares HashKV.
func (r *result) sameAt(k proc.Kind, dir, name string) error {
	s, err := proc.Start(k, filepath.Join(dir, name), "--quota-backend-bytes=8589934592")
	if err != nil {
		return err
	}
	defer s.Kill()
	hash, _, err := hashKV(s, r.Revision)
	if err != nil {
		return err
	}
	if hash != r.HashKV {
		return fmt.Errorf("HashKV at revision %d is %d at %s and was %d", r.Revision, hash, k, r.HashKV)
	}
	return s.Stop()
}
