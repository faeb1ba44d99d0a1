package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli"
)

// Bounds of what du reads and keeps.
const (
	duPageBytes = 1 << 20                // aimed at in one page
	duPageKeys  = 1000                   // at most in one page
	duGroups    = 100_000                // prefixes that are told apart
	duLargest   = 5                      // keys that are named
	duPause     = 100 * time.Millisecond // at most between two pages
	duHuge      = 1 << 20                // a value near the limit of a request, bytes
)

// duFlags are the flags of du.
type duFlags struct {
	depth     int
	delimiter string
	rows      int
	sort      string
}

func duVerb() cli.Verb {
	var d duFlags
	return cli.Verb{
		Use: "du [PREFIX]", Short: "Show how many keys and bytes lie under each prefix", Group: cli.GroupInsight,
		Long: `Show how many keys and bytes lie under each prefix, those with most bytes first.

All is read at one revision, in small pages, from whatever member is asked, with a pause after each page as long as the page
took: a busy cluster does not feel it. Bytes are those of keys and values as they are now; past revisions, which count for
the quota until a compaction, are not in them.`,
		Example: "  quorate du\n  quorate du /registry/ --depth 2\n  quorate du -w json",
		Flags: func(f *pflag.FlagSet) {
			f.IntVar(&d.depth, "depth", 2, "how many parts of a key behind PREFIX make a row")
			f.StringVar(&d.delimiter, "delimiter", "/", "what divides the parts of a key")
			f.IntVar(&d.rows, "rows", 50, "how many rows, 0 for all")
			f.StringVar(&d.sort, "sort", "bytes", "order of the rows: bytes, keys or name")
		},
		Keys: true,
		Run: func(s *cli.Session, args []string) error {
			if len(args) > 1 {
				return cli.Failf(cli.ExitBadArgs, "du takes one prefix, and got %q", args)
			}
			if d.depth < 0 || d.delimiter == "" || !slices.Contains([]string{"bytes", "keys", "name"}, d.sort) {
				return cli.Failf(cli.ExitBadArgs, "--depth %d, --delimiter %q, --sort %q: the depth is 0 or more, the delimiter not empty, the order bytes, keys or name", d.depth, d.delimiter, d.sort)
			}
			return d.run(s, append(args, "")[0])
		},
	}
}

// Usage is the answer of "quorate du -w json".
type Usage struct {
	Prefix   string      `json:"prefix"`
	Revision int64       `json:"revision"` // of the first page; all are of it unless Moved
	Moved    bool        `json:"moved"`    // a compaction overtook the reading, which went on at a newer revision
	Total    *UsageRow   `json:"total"`
	Rows     []*UsageRow `json:"rows"`
	Largest  []LargeKey  `json:"largest"`

	byPrefix map[string]*UsageRow
	others   *UsageRow // prefixes beyond what is told apart
}

// UsageRow is what lies under one prefix.
type UsageRow struct {
	Prefix  []byte `json:"prefix"`
	Keys    int64  `json:"keys"`
	Bytes   int64  `json:"bytes"`   // keys and values
	Largest int64  `json:"largest"` // bytes of the largest key and value
}

// LargeKey is a key with a large value.
type LargeKey struct {
	Key   []byte `json:"key"`
	Bytes int64  `json:"bytes"` // of key and value
}

func newUsage(prefix string) *Usage {
	return &Usage{Prefix: prefix, Total: &UsageRow{Prefix: []byte(prefix)}, Largest: []LargeKey{}, byPrefix: map[string]*UsageRow{}}
}

// add counts one key.
func (u *Usage) add(d *duFlags, kv *mvccpb.KeyValue) {
	bytes := int64(len(kv.GetKey()) + len(kv.GetValue()))
	row := u.row(groupOf(kv.GetKey(), len(u.Prefix), d.depth, d.delimiter))
	for _, r := range []*UsageRow{row, u.Total} {
		r.Keys++
		r.Bytes += bytes
		r.Largest = max(r.Largest, bytes)
	}
	if len(u.Largest) == duLargest && bytes <= u.Largest[duLargest-1].Bytes {
		return
	}
	at, _ := slices.BinarySearchFunc(u.Largest, bytes, func(l LargeKey, n int64) int { return cmp.Compare(n, l.Bytes) })
	u.Largest = slices.Insert(u.Largest, at, LargeKey{slices.Clone(kv.GetKey()), bytes})
	u.Largest = u.Largest[:min(len(u.Largest), duLargest)]
}

func (u *Usage) row(prefix []byte) *UsageRow {
	if r := u.byPrefix[string(prefix)]; r != nil {
		return r
	}
	if len(u.byPrefix) >= duGroups {
		if u.others == nil {
			u.others = &UsageRow{Prefix: []byte("(others)")}
		}
		return u.others
	}
	r := &UsageRow{Prefix: slices.Clone(prefix)}
	u.byPrefix[string(prefix)] = r
	return r
}

// groupOf is the part of a key up to the depth-th delimiter behind skip bytes, or up to the last one when there are fewer. A
// delimiter right at the begin does not count.
func groupOf(key []byte, skip, depth int, delimiter string) []byte {
	end, parts := skip, 0
	for at := skip; at+len(delimiter) <= len(key) && parts < depth; {
		if string(key[at:at+len(delimiter)]) != delimiter {
			at++
			continue
		}
		if at > skip {
			parts++
		}
		at += len(delimiter)
		end = at
	}
	return key[:end]
}

// finish puts the rows in order.
func (u *Usage) finish(d *duFlags) {
	u.Rows = slices.Collect(maps.Values(u.byPrefix))
	byName := func(a, b *UsageRow) int { return slices.Compare(a.Prefix, b.Prefix) }
	slices.SortFunc(u.Rows, func(a, b *UsageRow) int {
		switch d.sort {
		case "keys":
			return cmp.Or(cmp.Compare(b.Keys, a.Keys), byName(a, b))
		case "name":
			return byName(a, b)
		}
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), byName(a, b))
	})
	rest := u.others
	if d.rows > 0 && len(u.Rows) > d.rows {
		if rest == nil {
			rest = &UsageRow{Prefix: []byte("(others)")}
		}
		for _, r := range u.Rows[d.rows:] {
			rest.Keys, rest.Bytes, rest.Largest = rest.Keys+r.Keys, rest.Bytes+r.Bytes, max(rest.Largest, r.Largest)
		}
		u.Rows = u.Rows[:d.rows]
	}
	if rest != nil {
		u.Rows = append(u.Rows, rest)
	}
	if u.Rows == nil {
		u.Rows = []*UsageRow{}
	}
}

func (d *duFlags) run(s *cli.Session, prefix string) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	inJSON, err := asJSON(s)
	if err != nil {
		return err
	}
	u := newUsage(prefix)
	if err := d.read(s, c, u); err != nil {
		return err
	}
	u.finish(d)
	if inJSON {
		return writeJSON(s, u)
	}
	sc := newScreen(s)
	sc.usage(u)
	return sc.flush(s.Process.Stdout)
}

// read pages through the keys.
func (d *duFlags) read(s *cli.Session, c *clientv3.Client, u *Usage) error {
	key, end := u.Prefix, clientv3.GetPrefixRangeEnd(u.Prefix)
	if key == "" {
		key, end = "\x00", "\x00"
	}
	show := newProgress(s)
	defer show.end()
	limit, rev, total := int64(100), int64(0), int64(0)
	for {
		began := s.Clock().Now()
		ctx, cancel := s.Timeout()
		r, err := c.Get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(limit), clientv3.WithRev(rev), clientv3.WithSerializable())
		cancel()
		switch {
		case errors.Is(err, rpctypes.ErrCompacted) && rev > 0:
			rev, u.Moved = 0, true
			continue
		case err != nil:
			return fmt.Errorf("read from %s on: %w", safe([]byte(key), 60), err)
		}
		if rev == 0 {
			rev = r.Header.GetRevision()
			u.Revision = cmp.Or(u.Revision, rev)
			total = u.Total.Keys + r.Count
		}
		page := int64(0)
		for _, kv := range r.Kvs {
			u.add(d, kv)
			page += int64(len(kv.GetKey()) + len(kv.GetValue()))
		}
		if !r.More || len(r.Kvs) == 0 {
			return nil
		}
		show.step(u.Total.Keys, total, "keys")
		key = string(r.Kvs[len(r.Kvs)-1].GetKey()) + "\x00"
		limit = min(duPageKeys, max(1, duPageBytes*int64(len(r.Kvs))/max(1, page)))
		if err := pause(s.Context, s, min(duPause, s.Clock().Now().Sub(began))); err != nil {
			return err
		}
	}
}

// pause waits.
func pause(ctx context.Context, s *cli.Session, d time.Duration) error {
	timer := s.Clock().NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errInterrupted
	}
}

func (sc *screen) usage(u *Usage) {
	rows := [][]cell{{number("KEYS"), number("BYTES"), number("PART"), number("LARGEST"), left("PREFIX")}}
	line := func(r *UsageRow, name, color string) {
		rows = append(rows, []cell{{text: grouped(r.Keys), color: color, right: true}, {text: size(float64(r.Bytes)), color: color, right: true},
			{text: percent(float64(r.Bytes), float64(u.Total.Bytes)), color: color, right: true}, {text: size(float64(r.Largest)), color: color, right: true}, {text: name, color: color}})
	}
	for _, r := range u.Rows {
		name := safe(r.Prefix, 100)
		if name == "" {
			name = "(keys without a delimiter)"
		}
		line(r, name, "")
	}
	line(u.Total, "total", bold)
	sc.table(rows)
	sc.printf("\nat revision %s", grouped(u.Revision))
	if u.Moved {
		sc.printf("; a compaction overtook the reading, which went on at a newer revision")
	}
	sc.printf("\n")
	if len(u.Largest) > 0 {
		sc.printf("\nlargest keys\n")
	}
	for _, l := range u.Largest {
		note := ""
		if l.Bytes >= duHuge {
			note = sc.paint(yellow, "  huge: near the 1.5 MiB that a request may have; every update writes and sends all of it")
		}
		sc.printf("  %10s  %s%s\n", size(float64(l.Bytes)), safe(l.Key, 100), note)
	}
}
