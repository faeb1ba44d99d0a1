package offline

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/cli/render"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/restore"
	"quorate.dev/quorate/wire"
)

// status describes what a file holds.
type status struct {
	Hash      uint32 `json:"hash"`
	Revision  int64  `json:"revision"`
	TotalKey  int    `json:"totalKey"`
	TotalSize int64  `json:"totalSize"`
	Version   string `json:"version"`
}

func (t *tool) statusCommand() *cobra.Command {
	return &cobra.Command{Use: "status <filename>", Short: "Gets backend snapshot status of a given file",
		Long: `When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are hash, revision, total keys, total size.
`,
		Run: t.verb(t.status)}
}

func (t *tool) status(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return cli.Failf(cli.ExitBadArgs, "snapshot status requires exactly one argument")
	}
	if err := exists(args[0]); err != nil {
		return err
	}
	p, err := t.printer()
	if err != nil {
		return err
	}
	s, err := t.openSource(ctx, args[0])
	if err != nil {
		return err
	}
	st, err := readStatus(ctx, s)
	if err == nil && t.own {
		err = t.verdict(ctx, s)
	}
	if err := errors.Join(checked(err), s.Close()); err != nil {
		return err
	}
	return show(p, st.result())
}

// verdict says under our own name whether a file is what was saved: that is what people want to know of a backup.
func (t *tool) verdict(ctx context.Context, s source) error {
	f, ok := s.(*fileSource)
	if !ok {
		return nil
	}
	bar := t.newProgress()
	err := restore.Checksum(ctx, f.File, func(p restore.Progress) { bar.show(p.Stage.String(), p.Done, p.Total) })
	bar.end()
	var sum *restore.ChecksumError
	switch {
	case errors.As(err, &sum) && sum.Missing:
		fmt.Fprintln(t.process.Stderr, "note: the file has no checksum, so nothing says that it is whole; snapshot restore needs --skip-hash-check")
		return nil
	case err == nil && t.format == "simple" && cli.OnTerminal(t.process.Stdout):
		fmt.Fprintln(t.process.Stdout, "checksum ok")
	}
	return err
}

// checked puts etcd's words before what is wrong inside a file.
func checked(err error) error {
	var damage *etcddb.DamageError
	if errors.As(err, &damage) {
		return fmt.Errorf("snapshot file integrity check failed. 1 errors found.\n%w", err)
	}
	return err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readStatus walks over everything. Memory: the live keys.
func readStatus(ctx context.Context, s source) (*status, error) {
	st := &status{TotalSize: s.size()}
	live := map[string]struct{}{}
	err := s.walk(etcddb.Visitor{
		Bucket: func(name string) (bool, error) {
			st.Hash = crc32.Update(st.Hash, castagnoli, []byte(name))
			return true, nil
		},
		Pair: func(bucket string, key, value []byte) error {
			st.Hash = crc32.Update(crc32.Update(st.Hash, castagnoli, key), castagnoli, value)
			switch {
			case bucket == "key":
				return st.count(live, key, value)
			case bucket == "meta" && string(key) == "storageVersion":
				st.Version = string(value)
			}
			return context.Cause(ctx)
		},
	})
	st.TotalKey = len(live)
	return st, err
}

// count takes one record.
func (st *status) count(live map[string]struct{}, key, value []byte) error {
	main, tombstone, err := mvcc.EtcdRevision(key)
	if err != nil {
		return fmt.Errorf("cannot parse revision key: %q err: %w", key, err)
	}
	st.Revision = int64(main)
	var kv wire.KeyValue
	if err := kv.Unmarshal(value); err != nil {
		return fmt.Errorf("cannot unmarshal value, key: %q value: %q err: %w", key, value, err)
	}
	if tombstone {
		delete(live, string(kv.Key))
	} else {
		live[string(kv.Key)] = struct{}{}
	}
	return nil
}

func (st *status) result() render.Result {
	row := []string{fmt.Sprintf("%x", st.Hash), fmt.Sprint(st.Revision), fmt.Sprint(st.TotalKey), humanize.Bytes(uint64(st.TotalSize)), st.Version}
	rows := &render.Rows{Header: []string{"hash", "revision", "total keys", "total size", "version"}, Cells: [][]string{row}}
	return render.Result{JSON: st, Rows: rows, Text: func(x *render.Text) { x.Rows(rows) }, Fields: func(l *render.Lines) {
		l.Field("Hash", st.Hash)
		l.Field("Revision", st.Revision)
		l.Field("Keys", st.TotalKey)
		l.Field("Size", st.TotalSize)
		l.Field("Version", st.Version)
	}}
}

// hashKV is the answer of the verb of that name.
type hashKV struct {
	Hash            uint32 `json:"hash"`
	HashRevision    int64  `json:"hashRevision"`
	CompactRevision int64  `json:"compactRevision"`
}

func (t *tool) hashKVCommand() *cobra.Command {
	var rev int64
	c := &cobra.Command{Use: "hashkv <filename>", Short: "Prints the KV history hash of a given file", Args: cobra.ExactArgs(1),
		Run: t.verb(func(ctx context.Context, args []string) error { return t.hashKV(ctx, args[0], ids.Revision(rev)) })}
	c.Flags().Int64Var(&rev, "rev", 0, "maximum revision to hash (default: latest revision)")
	return c
}

func (t *tool) hashKV(ctx context.Context, path string, rev ids.Revision) error {
	p, err := t.printer()
	if err != nil {
		return err
	}
	s, err := t.openSource(ctx, path)
	if err != nil {
		return err
	}
	h, err := s.hash(rev)
	switch {
	case errors.Is(err, fault.Compacted):
		err = errors.New("mvcc: required revision has been compacted")
	case errors.Is(err, fault.FutureRev):
		err = errors.New("mvcc: required revision is a future revision")
	case err != nil:
		err = fmt.Errorf("%s: %w", path, err)
	}
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	answer := hashKV{h.Hash, int64(h.Revision), int64(h.Compacted)}
	row := []string{fmt.Sprint(answer.Hash), fmt.Sprint(answer.HashRevision), fmt.Sprint(answer.CompactRevision)}
	rows := &render.Rows{Header: []string{"hash", "hash revision", "compact revision"}, Cells: [][]string{row}}
	return show(p, render.Result{JSON: answer, Rows: rows, Text: func(x *render.Text) { x.Rows(rows) }, Fields: func(l *render.Lines) {
		l.Field("Hash", answer.Hash)
		l.Field("Hash revision", answer.HashRevision)
		l.Field("Compact revision", answer.CompactRevision)
	}})
}
