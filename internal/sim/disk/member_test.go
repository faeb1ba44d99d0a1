package disk_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/sim/disk"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wal"
)

const (
	storeDir = "data/store"
	logDir   = "data/log"
	steps    = 24
)

// member is a log and an engine that holds what the log says, without raft: every entry is committed when it is durable.
type member struct {
	d      *disk.Disk
	engine *storage.Engine
	log    *wal.Log
	last   uint64 // entry in the log
	batch  []*raftpb.Entry
}

// entry returns the entry of that index. It sets one key, and every fifth one removes another.
func entry(index uint64) *raftpb.Entry {
	data := strings.Repeat(fmt.Sprint(index, "-"), 60*int(index%9))
	return &raftpb.Entry{Index: &index, Term: new(uint64(1)), Data: []byte(data)}
}

// states are the printed contents after 0, 1, 2... entries.
func states() []string {
	s, out := map[string]string{}, []string{""}
	for i := uint64(1); i <= steps; i++ {
		set(i, func(k, v string) { s[k] = v }, func(k string) { delete(s, k) })
		out = append(out, printed(s))
	}
	return out
}

func set(index uint64, put func(k, v string), remove func(k string)) {
	put(fmt.Sprintf("k%02d", index%10), string(entry(index).GetData()))
	put("m", fmt.Sprint(index))
	if index%5 == 0 {
		remove(fmt.Sprintf("k%02d", index%7))
	}
}

func printed(s map[string]string) string {
	var lines []string
	for k, v := range s {
		lines = append(lines, fmt.Sprintf("%s=%.6s/%d", k, v, len(v)))
	}
	sort.Strings(lines)
	return strings.Join(lines, " ")
}

// open opens or founds a member on d and applies what is in its log. On an error nothing stays open.
func open(d *disk.Disk) (m *member, err error) {
	m = &member{d: d}
	defer func() {
		if err != nil {
			m.abandon()
		}
	}()
	if m.engine, err = storage.Open(storeDir, storage.Options{FS: d.FS(), Pinned: true}); err != nil {
		return m, err
	}
	o := wal.Options{FS: d.FS(), SegmentBytes: 4 << 10}
	if !wal.Exists(d.FS(), logDir) {
		m.log, err = wal.Create(logDir, o, wal.Metadata{Member: 1, Cluster: 1})
		return m, err
	}
	log, replay, err := wal.Open(logDir, o, m.engine.Applied().Index)
	if err != nil {
		return m, err
	}
	m.log, m.last = log, uint64(m.engine.Applied().Index)
	for _, e := range replay.Entries {
		if e.GetIndex() > m.last {
			m.batch, m.last = append(m.batch, e), e.GetIndex()
		}
	}
	return m, m.apply()
}

// apply commits what was appended.
func (m *member) apply() error {
	if len(m.batch) == 0 {
		return nil
	}
	b := m.engine.NewBatch()
	for _, e := range m.batch {
		if string(e.GetData()) != string(entry(e.GetIndex()).GetData()) {
			return fmt.Errorf("SILENT: entry %d came back as %.20q", e.GetIndex(), e.GetData())
		}
		set(e.GetIndex(), func(k, v string) { b.Set([]byte(k), []byte(v)) }, func(k string) { b.Delete([]byte(k)) })
	}
	m.batch = nil
	return m.engine.Commit(b, storage.Mark{Index: ids.Index(m.last), Term: 1})
}

// propose appends the next entry. When it returns nil, the entry is acknowledged.
func (m *member) propose() error {
	e := entry(m.last + 1)
	hs := &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(1)), Commit: new(m.last)}
	if err := m.log.Append(hs, []*raftpb.Entry{e}, true); err != nil {
		return err
	}
	m.last++
	m.batch = append(m.batch, e)
	return nil
}

// content prints what the engine holds.
func (m *member) content() (string, error) {
	it, err := m.engine.Iter(nil, nil)
	if err != nil {
		return "", err
	}
	s := map[string]string{}
	for ok := it.First(); ok; ok = it.Next() {
		s[string(it.Key())] = string(it.Value())
	}
	return printed(s), it.Close()
}

func (m *member) close() error {
	err := errors.Join(m.apply(), m.log.Close(), m.engine.Close())
	m.log, m.engine = nil, nil
	return err
}

func (m *member) abandon() {
	if m.log != nil {
		_ = m.log.Close()
	}
	if m.engine != nil {
		_ = m.engine.CloseDirty()
	}
	m.log, m.engine = nil, nil
}

// run is how far a run of the script came, and the disk as it is then.
type run struct {
	d            *disk.Disk
	acked, tried uint64
	err          error // that ended it; nil at its end
}

// play runs the script on d until the first failure: proposals, commits, flushes, compactions, released segments, one clean
// restart and one after which nothing is in memory any more.
func play(d *disk.Disk) (r run) {
	r.d = d
	m, err := open(d)
	if r.err = err; err != nil {
		return r
	}
	defer func() {
		if r.err != nil {
			m.abandon()
		}
	}()
	for i := uint64(1); i <= steps; i++ {
		r.tried = i
		if r.err = m.propose(); r.err != nil {
			return r
		}
		r.acked = i
		m, r.err = m.upkeep(i)
		if r.d = m.d; r.err != nil {
			return r
		}
	}
	r.err = m.close()
	return r
}

// upkeep does what a member does besides after entry i, and returns it as it goes on.
func (m *member) upkeep(i uint64) (*member, error) {
	var err error
	if i%2 == 0 {
		err = m.apply()
	}
	if err == nil && i%5 == 0 {
		err = m.engine.Flush()
	}
	if err == nil && i%8 == 0 {
		err = m.engine.Settle()
	}
	if err == nil && i%3 == 0 {
		var durable storage.Mark
		if durable, err = m.engine.Durable(); err == nil {
			err = m.log.Release(durable.Index)
		}
	}
	switch {
	case err != nil:
		return m, err
	case i == 11:
		if err := m.close(); err != nil {
			return m, err
		}
		return open(m.d)
	case i == 17:
		d := m.d.Kill()
		m.abandon()
		return open(d)
	}
	return m, nil
}

// verify wants what is acknowledged to be on the disk, now and after the power goes again and again. Every second time the log is
// released up to what the engine says is durable, and every other time the engine is made to flush before.
func (r run) verify(t *testing.T, want []string) {
	t.Helper()
	d := r.d
	for i := range 4 {
		m, err := open(d)
		if err != nil {
			t.Fatalf("%d entries were acknowledged, and now the member does not open: %v", r.acked, err)
		}
		got, err := m.content()
		if err != nil {
			t.Fatal(err)
		}
		if m.last < r.acked || m.last > r.tried || got != want[m.last] {
			t.Fatalf("acknowledged %d, tried %d, found %d:\n%s\nwant\n%s", r.acked, r.tried, m.last, got, want[m.last])
		}
		if i%2 == 1 {
			if err := m.engine.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		durable, err := m.engine.Durable()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.log.Release(durable.Index); err != nil {
			t.Fatal(err)
		}
		r.acked = m.last // found means durable
		m.abandon()
		d = d.Crash()
	}
}

func newDisk(seed, n uint64) *disk.Disk {
	return disk.New(rand.New(rand.NewPCG(seed, n)), disk.Config{Ordered: n%4 == 0})
}
