package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/v3/snapshot"
	"go.uber.org/zap"
)

func snapshotVerb() Verb {
	return Verb{
		Use: "snapshot <subcommand>", Short: "Manages etcd node snapshots", Group: GroupMaintenance, Example: snapshotExample,
		Verbs: []Verb{
			{Use: "save <filename>", Short: "Stores an etcd node backend snapshot to a given file", Example: snapshotExample, Run: snapshotSave},
		},
	}
}

const snapshotExample = `  # Save snapshot to a given file
  etcdctl snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot from given address and save it to file
  etcdctl snapshot save --endpoints=127.0.0.1:3000 /backup/etcd-snapshot.db
  
  # Get snapshot from given address with certificates
  etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/ca.crt --cert=/etc/etcd/etcd.crt --key=/etc/etcd/etcd.key snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot with certain user and password
  etcdctl --user=root --password=password123 snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot from given address with timeout
  etcdctl --endpoints=https://127.0.0.1:2379 --dial-timeout=20s snapshot save /backup/etcd-snapshot.db
  
  # Save snapshot with desirable time format
  etcdctl snapshot save /mnt/backup/etcd/backup_$(date +%Y%m%d_%H%M%S).db`

// snapshotSave has no time limit unless one is given.
func snapshotSave(s *Session, args []string) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "snapshot save expects one argument <filename>")
	}
	spec, err := s.Spec()
	if err != nil {
		return err
	}
	cfg, err := s.config(spec)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.Context)
	if s.Flags.Changed("command-timeout") {
		ctx, cancel = s.Timeout()
	}
	defer cancel()
	save := func() (string, error) {
		return snapshot.SaveWithVersion(ctx, newLogger(s.Process.Stderr, zap.InfoLevel), *cfg, args[0])
	}
	if s.Own() {
		save = func() (string, error) { return s.saveSnapshot(ctx, args[0]) }
	}
	version, err := save()
	if err != nil {
		return Fail(ExitInterrupted, err)
	}
	s.Printf("Snapshot saved at %s\n", args[0])
	if version != "" {
		s.Printf("Server version %s\n", version)
	}
	return nil
}

// saveSnapshot saves a snapshot like the client library does, and besides shows how far it is and checks the hash at its end,
// so that a file by that name is never one that cannot be restored.
func (s *Session) saveSnapshot(ctx context.Context, path string) (version string, err error) {
	eps := s.spec.Endpoints
	if len(eps) != 1 {
		return "", fmt.Errorf("a snapshot is of one member, and --endpoints names %d: %v", len(eps), eps)
	}
	c, err := s.Client()
	if err != nil {
		return "", err
	}
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(part))
		}
	}()
	stream, err := pb.NewMaintenanceClient(c.ActiveConnection()).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return "", err
	}
	in := &snapshotStream{w: f, hash: sha256.New()}
	if OnTerminal(s.Process.Stderr) {
		in.bar = newProgress(s, "snapshot", "", 0)
		defer in.bar.end()
	}
	if err := in.copy(stream.Recv); err != nil {
		return "", err
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Rename(part, path)); err != nil {
		return "", err
	}
	return in.version, syncDir(filepath.Dir(path))
}

// snapshotStream writes a snapshot. The last 32 bytes are the hash of those before, so they are held back from it.
type snapshotStream struct {
	w       io.Writer
	hash    hash.Hash
	tail    []byte
	size    int64
	version string
	bar     *progress
}

func (in *snapshotStream) copy(next func() (*pb.SnapshotResponse, error)) error {
	for {
		r, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", in.size, err)
		}
		if in.size == 0 {
			in.version = r.GetVersion()
		}
		if _, err := in.w.Write(r.GetBlob()); err != nil {
			return err
		}
		in.size += int64(len(r.GetBlob()))
		in.tail = append(in.tail, r.GetBlob()...)
		if n := len(in.tail) - sha256.Size; n > 0 {
			in.hash.Write(in.tail[:n])
			in.tail = append(in.tail[:0], in.tail[n:]...)
		}
		in.bar.resize(in.size + int64(r.GetRemainingBytes()))
		in.bar.to(in.size)
	}
	if in.size%512 != sha256.Size {
		return fmt.Errorf("the snapshot ends after %d bytes without its hash: the server stopped in the middle; try again", in.size)
	}
	if sum := in.hash.Sum(nil); !bytes.Equal(sum, in.tail) {
		return fmt.Errorf("the snapshot is damaged: the hash of its %d bytes is %x, and its end says %x; try again", in.size-sha256.Size, sum, in.tail)
	}
	return nil
}

// syncDir makes a rename durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
