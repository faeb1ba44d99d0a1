package grpcapi

import (
	"errors"
	"math"
	"sync"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/wire"
)

// pageable reports whether a range can be read in pages, in the order of keys.
func pageable(r *wire.RangeRequest) bool {
	return len(r.RangeEnd) > 0 && !r.CountOnly && ordered(r) && !filtered(r) && (r.SortOrder != wire.SortNone || r.SortTarget == wire.SortByKey)
}

// answerPages sends a range whose records need not be in memory: its size is known from the index, its bytes are read as
// the client takes them.
func (r *read) answerPages(view *state.View) error {
	scan, err := view.Scan(&r.scan)
	if err != nil {
		return err
	}
	kvs, m, err := scan.Collect(r.found.KVs[:0])
	if err != nil {
		return err
	}
	resp := wire.RangeResponse{Header: r.services.header(ids.Revision(scan.Revision())), KVs: kvs, More: scan.More(), Count: m.Keys}
	if resp.More {
		if resp.Count, err = scan.Count(); err != nil {
			return err
		}
	}
	if m.Absent <= limits.RangeReplyBytes {
		if m.Absent > 0 {
			if resp.KVs, _, err = scan.Page(kvs, math.MaxInt, math.MaxInt); err != nil {
				return err
			}
		}
		return r.reply(&resp)
	}
	size := int64(resp.Size()) + m.Elements
	if size > math.MaxInt32 {
		return answerTooLarge(int(size))
	}
	p := &pages{services: r.services, call: r.call, scan: scan, pieces: newPieces(&resp)}
	p.pieces.follow = true
	r.call.ReplyStream(int(size), p.next)
	return nil
}

// pages is a large answer whose records are read from disk, one page ahead of the client. The worker that reads a page and
// the connection that takes it hand it over to each other: pages.mu is held for that alone.
type pages struct {
	services *Services
	call     *rpc.Call
	scan     *mvcc.Scan // belongs to the worker while reading is set

	mu      sync.Mutex
	pieces  *pieces // belongs to the connection; its records are the page in hand
	page    [][]byte
	reading bool
	ready   bool // page is complete
	last    bool // and the last one
}

// next gives what is left of the page in hand, or takes the next one. Without one it asks for it.
func (p *pages) next(dst []byte) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready && len(p.pieces.kvs) == 0 {
		p.pieces.kvs, p.page = p.page, p.pieces.kvs[:0]
		p.pieces.follow, p.ready = !p.last, false
	}
	if !p.reading && !p.ready && !p.last {
		p.reading = true
		if err := p.services.lane.add(p.read); err != nil {
			p.call.Abandon(statusOf(err))
			return dst, true
		}
	}
	return p.pieces.next(dst)
}

// read is a worker's job: it reads one page.
func (p *pages) read() {
	kvs, done, err := p.scan.Page(p.page[:0], math.MaxInt, limits.RangePieceBytes)
	if errors.Is(err, mvcc.Stale) {
		err = fault.Compacted
	}
	if err != nil {
		p.call.Abandon(statusOf(err))
		return
	}
	p.mu.Lock()
	p.page, p.ready, p.reading, p.last = kvs, true, false, done
	p.mu.Unlock()
	p.call.Resume()
}
