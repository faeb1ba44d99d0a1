package k8s

import (
	"bytes"
	"strconv"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

// listing is a paginated list under way.
type listing struct {
	kind     resource
	from     []byte // of the next page
	end      []byte
	limit    int64
	revision int64 // of the first page, 0 before it
	keys     int64
	keysOnly bool
	each     func(key []byte, mod int64) // called on a connection's reader; nil for nobody
	done     func(l *listing, err error) // called by the driver
}

// page makes the request of the next page.
func (l *listing) page(m *making) (lean.Method, lean.Message) {
	m.get = wire.RangeRequest{Key: l.from, RangeEnd: l.end, Limit: l.limit, Revision: l.revision, KeysOnly: l.keysOnly}
	return lean.Range, &m.get
}

func appendInt(dst []byte, v int64) []byte { return strconv.AppendInt(dst, v, 10) }

// startList sends the first page of a list.
func (d *driver) startList(c class, server int64, at time.Duration, l *listing) {
	d.send(&call{d: d, class: c, id: server, at: at, list: l, quiet: c == revisions})
}

// listed goes on with a list after a page.
func (d *driver) listed(x *call) {
	l := x.list
	if x.answer.err != nil {
		l.done(l, x.answer.err)
		return
	}
	l.keys += x.scan.keys
	if l.revision == 0 {
		l.revision = x.scan.revision
	}
	over := d.closing && (x.class == listPods || x.class == listAllPods) // nobody waits for the rest
	if !x.scan.more || len(x.scan.last) == 0 || over {
		l.done(l, nil)
		return
	}
	l.from = append(append(l.from[:0:0], x.scan.last...), 0)
	d.send(&call{d: d, class: x.class, id: x.id, at: x.answer.at, list: l, quiet: x.quiet})
}

// wholeOf is a list of all objects of a resource in the API server's pages.
func (d *driver) wholeOf(kind resource, done func(*listing, error)) *listing {
	return &listing{kind: kind, from: bytes.Clone(d.keys.prefix[kind]), end: d.keys.ends[kind], limit: bulkLimit, done: done}
}

// relist is an API server that has lost its watches: it lists everything and watches from there.
func (d *driver) relist(server int64, at time.Duration) {
	for kind := range active {
		w := d.links[server][kind].watcher
		w.drop()
		d.relistOne(server, w, at)
	}
}

func (d *driver) relistOne(server int64, w *watcher, at time.Duration) {
	d.startList(relists, server, at, d.wholeOf(w.kind, func(l *listing, err error) {
		if err != nil {
			d.relistOne(server, w, at) // the time of all attempts counts
			return
		}
		w.begin(l.revision)
		d.relisted = max(d.relisted, d.now()-at)
	}))
}
