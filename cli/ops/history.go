package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/internal/clock"
)

// historyFlags are the flags of history.
type historyFlags struct {
	limit int
	lines int
}

// historyMost bounds the revisions that are kept at once.
const historyMost = 1000

func historyVerb() cli.Verb {
	var h historyFlags
	return cli.Verb{
		Use: "history KEY", Short: "Show the retained revisions of a key, the newest first, and how each differs from the one before", Group: cli.GroupInsight,
		Long: `Show the retained revisions of a key, the newest first, and how each differs from the one before.

Text and JSON are compared line by line, Kubernetes' objects as YAML, other values as bytes. Revisions before the last
compaction are gone. Those since the key was last created are read one by one; for those before that, and for a key that is
deleted, the server is asked to replay the key's events.`,
		Example: "  quorate history /registry/deployments/default/web\n  quorate history config --limit 3 -w json",
		Flags: func(f *pflag.FlagSet) {
			f.IntVar(&h.limit, "limit", 20, fmt.Sprintf("how many revisions, at most %d", historyMost))
			f.IntVar(&h.lines, "lines", 40, "how many lines of each difference, 0 for all")
		},
		Keys: true,
		Run: func(s *cli.Session, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return cli.Failf(cli.ExitBadArgs, "history takes one key, and got %q", args)
			}
			if h.limit < 1 || h.limit > historyMost || h.lines < 0 {
				return cli.Failf(cli.ExitBadArgs, "--limit %d: 1 to %d revisions; --lines %d: 0 or more", h.limit, historyMost, h.lines)
			}
			return h.run(s, args[0])
		},
	}
}

// replayAsks is the time between two questions whether a replay is at its end.
const replayAsks = 100 * time.Millisecond

// Kinds of an Entry.
const (
	Created  = "create"
	Modified = "modify"
	Deleted  = "delete"
)

// History is the answer of "quorate history -w json".
type History struct {
	Key      []byte  `json:"key"`
	Revision int64   `json:"revision"`         // of the store when it was asked
	Entries  []Entry `json:"entries"`          // the newest first
	Oldest   string  `json:"oldest,omitempty"` // why there are none before; "" when the key did not exist before
}

// Entry is what one revision did to the key.
type Entry struct {
	Revision int64    `json:"revision"`
	Event    string   `json:"event"`
	Version  int64    `json:"version,omitempty"` // changes since it was created
	Lease    string   `json:"lease,omitempty"`   // hexadecimal
	Size     int      `json:"size"`              // bytes of the value
	Kind     string   `json:"kind,omitempty"`    // what the value is
	Value    []byte   `json:"value,omitempty"`
	Diff     []string `json:"diff,omitempty"` // against the revision before, lines that begin with +, - or a space
}

func entryOf(kv *mvccpb.KeyValue) Entry {
	e := Entry{Revision: kv.GetModRevision(), Event: Modified, Version: kv.GetVersion(), Size: len(kv.GetValue()), Value: kv.GetValue()}
	if kv.GetVersion() == 1 {
		e.Event = Created
	}
	if kv.GetLease() != 0 {
		e.Lease = hex(uint64(kv.GetLease()))
	}
	_, e.Kind = readable(kv.GetValue())
	return e
}

func (h *historyFlags) run(s *cli.Session, key string) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	inJSON, err := asJSON(s)
	if err != nil {
		return err
	}
	out := &History{Key: []byte(key), Entries: []Entry{}}
	if err := h.walk(s, c, out); err != nil {
		return err
	}
	if len(out.Entries) == 0 {
		return fmt.Errorf("there is no key %q, and none of the retained revisions has it", key)
	}
	out.compare(h.limit)
	if inJSON {
		return writeJSON(s, out)
	}
	sc := newScreen(s)
	sc.history(out, h.lines)
	return sc.flush(s.Process.Stdout)
}

// walk collects one entry more than wanted, against which the last is compared.
func (h *historyFlags) walk(s *cli.Session, c *clientv3.Client, out *History) error {
	at, key := int64(0), string(out.Key)
	for len(out.Entries) <= h.limit {
		ctx, cancel := s.Timeout()
		r, err := c.Get(ctx, key, clientv3.WithRev(at))
		cancel()
		if errors.Is(err, rpctypes.ErrCompacted) {
			out.Oldest = "older revisions were compacted"
			return nil
		}
		if err != nil {
			return err
		}
		if out.Revision == 0 {
			out.Revision = r.Header.GetRevision()
		}
		if len(r.Kvs) == 0 {
			break
		}
		e := entryOf(r.Kvs[0])
		out.Entries = append(out.Entries, e)
		if at = e.Revision - 1; at == 0 || e.Version == 1 {
			break
		}
	}
	if len(out.Entries) > h.limit {
		return nil
	}
	return h.replay(s, c, out)
}

// replay adds what was before the key was last created.
func (h *historyFlags) replay(s *cli.Session, c *clientv3.Client, out *History) error {
	before := out.Revision + 1
	if n := len(out.Entries); n > 0 {
		before = out.Entries[n-1].Revision
	}
	ctx, cancel := context.WithTimeout(s.Context, 2*s.Globals.Dial.CommandTimeout)
	defer cancel()
	var found []Entry
	from := int64(1)
	for from < before {
		list, compacted, err := replayed(ctx, c, string(out.Key), from, before, h.limit+1, s.Clock())
		if err != nil && ctx.Err() != nil && s.Context.Err() == nil {
			out.Oldest = "the server took too long to replay older events"
			return nil
		}
		if err != nil {
			return err
		}
		if compacted == 0 {
			found = list
			break
		}
		from, out.Oldest = compacted, "older revisions were compacted"
	}
	slices.Reverse(found)
	out.Entries = append(out.Entries, found...)
	if n := len(out.Entries); n > 0 && out.Entries[n-1].Event == Created {
		out.Oldest = ""
		if from > 1 {
			out.Oldest = "older revisions were compacted"
		}
	}
	return nil
}

// replayed are the last events of a key from a revision up to, and without, another; or the revision of a compaction that
// took away the begin.
func replayed(ctx context.Context, c *clientv3.Client, key string, from, before int64, most int, clk clock.Clock) (list []Entry, compacted int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.Watch(ctx, key, clientv3.WithRev(from), clientv3.WithCreatedNotify())
	ask := clk.NewTicker(replayAsks) // a server that is not there yet need not answer
	defer ask.Stop()
	for {
		var r clientv3.WatchResponse
		var open bool
		select {
		case r, open = <-events:
		case <-ask.C:
			if err := c.RequestProgress(ctx); err != nil {
				return nil, 0, err
			}
			continue
		}
		switch {
		case ctx.Err() != nil:
			return nil, 0, ctx.Err()
		case !open:
			return nil, 0, errors.New("the server ended the replay of the key's events")
		case r.CompactRevision > 0:
			return nil, r.CompactRevision, nil
		case r.Err() != nil:
			return nil, 0, r.Err()
		}
		for _, e := range r.Events {
			if e.Kv.GetModRevision() >= before {
				return list, 0, nil
			}
			entry := Entry{Revision: e.Kv.GetModRevision(), Event: Deleted}
			if e.Type == clientv3.EventTypePut {
				entry = entryOf((*mvccpb.KeyValue)(e.Kv))
			}
			if list = append(list, entry); len(list) > most {
				list = list[1:]
			}
		}
		if r.IsProgressNotify() && r.Header.GetRevision() >= before-1 {
			return list, 0, nil
		}
	}
}

// compare fills in the differences, and keeps limit entries.
func (h *History) compare(limit int) {
	for i := range h.Entries {
		e := &h.Entries[i]
		var before []byte
		known := i+1 < len(h.Entries)
		if known && h.Entries[i+1].Event != Deleted {
			before = append([]byte{}, h.Entries[i+1].Value...)
		}
		switch {
		case e.Event == Deleted:
		case e.Event == Created:
			e.Diff = compare(nil, e.Value)
		case known:
			e.Diff = compare(before, e.Value)
		}
	}
	if len(h.Entries) > limit {
		h.Entries, h.Oldest = h.Entries[:limit], fmt.Sprintf("there are older ones: --limit %d", 2*limit)
	}
}

func (sc *screen) history(h *History, lines int) {
	sc.printf("%s   at revision %s\n", sc.paint(bold, safe(h.Key, 200)), grouped(h.Revision))
	for _, e := range h.Entries {
		color := map[string]string{Created: green, Modified: cyan, Deleted: red}[e.Event]
		sc.printf("\n%s %s", sc.paint(color, e.Event), sc.paint(bold, fmt.Sprint("revision ", e.Revision)))
		if e.Event == Deleted {
			sc.printf("\n")
			continue
		}
		sc.printf("   version %d   %s", e.Version, size(float64(e.Size)))
		if e.Lease != "" {
			sc.printf("   lease %s", e.Lease)
		}
		sc.printf("   %s\n", e.Kind)
		if e.Diff == nil {
			sc.printf("    %s\n", sc.paint(faint, "(the value before is not retained)"))
		}
		sc.diff(e.Diff, lines)
	}
	if h.Oldest != "" {
		sc.printf("\n%s\n", sc.paint(faint, h.Oldest))
	}
}

func (sc *screen) diff(diff []string, lines int) {
	for i, line := range diff {
		if lines > 0 && i == lines {
			sc.printf("    %s\n", sc.paint(faint, fmt.Sprintf("... %d more lines (--lines 0)", len(diff)-lines)))
			return
		}
		color := map[byte]string{'+': green, '-': red, '@': faint}[line[0]]
		sc.printf("    %s\n", sc.paint(color, strings.TrimRight(safe([]byte(line), 300), " ")))
	}
}
