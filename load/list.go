package load

import (
	"context"
	"sync"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

// listPage is Kubernetes' page.
const listPage = 500

var listKinds = []Kind{{
	Name: "list", Summary: "Read all keys page by page, as Kubernetes lists",
	Detail: "Each client reads the whole prefix, --limit keys at a time: every page goes on behind the last key of the one before, at\n" +
		"the revision of the first. An operation is a page. Without --seconds or --total each client makes --lists lists.\n" +
		"extra.list_* is the time of whole lists.",
	Example: "quorate bench fill --keys 500000 --value-size 1024 --connections 100 --clients 1000\nquorate bench list --clients 4 --connections 4",
	make:    func(*run) workload { return new(listWork) },
	adjust: func(o *Options) {
		set(&o.Work.Limit, listPage)
		if o.Shape.Duration == 0 && o.Shape.Total == 0 {
			o.Shape.Total = Endless // the lists end the run
			return
		}
		o.Work.Lists = 1 << 30
	},
}}

type listWork struct {
	plain
	mu          sync.Mutex
	whole       Histogram // of whole lists
	first       Histogram // of their first pages
	keys, lists int64
}

func (w *listWork) job(r *run, _ int) (job, transport) {
	j := &listJob{w: w, r: r, left: r.o.Work.Lists}
	j.req = wire.RangeRequest{RangeEnd: r.o.Data.space().end(), Limit: r.o.Work.Limit, Serializable: r.o.Work.Serializable, KeysOnly: r.o.Work.KeysOnly}
	j.restart()
	return j, unary
}

func (w *listWork) finish(_ context.Context, _ *run, res *Result) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	res.Extra["lists"], res.Extra["keys"] = float64(w.lists), float64(w.keys)
	if w.lists > 0 {
		res.extraLatency("list", &w.whole)
		res.extraLatency("first_page", &w.first)
	}
	return nil
}

type listJob struct {
	w     *listWork
	r     *run
	left  int64 // lists to make
	req   wire.RangeRequest
	resp  wire.RangeResponse
	from  []byte
	keys  int64         // of the list under way
	begin time.Duration // of the list under way
	page  time.Duration // of the page under way
}

func (j *listJob) restart() {
	j.from = append(j.from[:0], j.r.o.Data.Prefix...)
	j.req.Revision, j.keys = 0, 0
}

func (j *listJob) next(_ int64, start time.Duration) (lean.Method, lean.Message, bool) {
	if j.left == 0 {
		return 0, nil, false
	}
	if j.page = start; j.req.Revision == 0 {
		j.begin = start
	}
	j.req.Key = j.from
	return lean.Range, &j.req, true
}

func (j *listJob) done(body []byte, err error) (int, error) {
	if err == nil {
		err = j.resp.Unmarshal(body)
	}
	if err != nil {
		j.restart()
		return 0, err
	}
	resp := &j.resp
	if resp.More && len(resp.KVs) == 0 || j.req.Limit > 0 && int64(len(resp.KVs)) > j.req.Limit {
		j.restart()
		return 0, errAnswer
	}
	j.keys += int64(len(resp.KVs))
	if j.req.Revision == 0 {
		j.req.Revision = resp.Header.Revision
		j.w.note(&j.w.first, j.r.now()-j.page)
	}
	if resp.More {
		j.from = append(append(j.from[:0], wire.KeyOf(resp.KVs[len(resp.KVs)-1])...), 0)
		return len(body), nil
	}
	j.w.note(&j.w.whole, j.r.now()-j.begin)
	j.w.mu.Lock()
	j.w.lists++
	j.w.keys += j.keys
	j.w.mu.Unlock()
	j.left--
	j.restart()
	return len(body), nil
}

func (w *listWork) note(h *Histogram, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h.Add(d)
}
