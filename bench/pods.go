package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	podKey   = "/registry/pods/bench/%08d"
	podFirst = "/registry/pods/"
	podEnd   = "/registry/pods0"
	podValue = 10_240 // bytes: Kubernetes' issue 22332 gives 10 to 20 KB for real ones
	podsList = 10     // lists at once
	podsPage = 10_000 // keys of a page, as the API server's watch cache asks when it starts
)

// loadPods creates the pods: half compressible values, different for each key.
func (w *workbench) loadPods() (*result, error) {
	put := func(c *caller, l limit, i int64) error {
		if cap(c.value) < podValue {
			c.value = make([]byte, podValue)
		}
		return c.put(l, c.numbered(podKey, i), halfRandom(c.value[:podValue], uint64(i)+2))
	}
	r, err := figuresOf(w.once(20, &workload{clients: 200, total: int64(w.sizes.pods), op: put}))
	if err != nil {
		return nil, err
	}
	if err := w.s.settle(time.Duration(w.sizes.calm) * time.Second); err != nil {
		return nil, err
	}
	return w.holdings(r)
}

// onePodList lists all pods in one answer.
func (w *workbench) onePodList() (*result, error) { return w.listPods(1, 0) }

// tenPodLists lists all pods in one answer, ten at once. A server that holds an answer twice, encoded and not, would need
// more memory than a small machine has; it is not asked.
func (w *workbench) tenPodLists() (*result, error) {
	answers := 2 * podsList * int64(w.sizes.pods) * podValue
	if free, err := memoryFree(); err != nil {
		return nil, err
	} else if w.s.c.name == "etcd" && answers > free {
		return nil, notMeasured(fmt.Sprintf("ten answers, encoded and not, are %d GB, and %d GB of memory are free", answers>>30, free>>30))
	}
	return w.listPods(podsList, 0)
}

// tenPagedLists lists all pods page by page, ten clients at once.
func (w *workbench) tenPagedLists() (*result, error) { return w.listPods(podsList, podsPage) }

// listPods has so many clients list all pods, each on a connection of its own, and adds the server's time, CPU and peak
// memory above resting. The clients throw the values away as they come.
func (w *workbench) listPods(clients, page int) (*result, error) {
	rest, err := w.s.memory()
	if err != nil {
		return nil, err
	}
	if err := w.s.resetPeak(); err != nil {
		return nil, err
	}
	cpu0, err := w.s.cpu()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	errs := make([]error, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { errs[i] = newDrain(w.s.members[0].addr).list(w.sizes.pods, page) })
	}
	all.Wait()
	took := time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	cpu1, err := w.s.cpu()
	if err != nil {
		return nil, err
	}
	m, err := w.s.memory()
	if err != nil {
		return nil, err
	}
	r := newResult().set("seconds", took.Seconds()).set("CPU", (cpu1-cpu0).Seconds()).set("lists at once", float64(clients))
	r.set("throughput", float64(clients)*float64(w.sizes.pods)*podValue/took.Seconds())
	return r.set("resident", float64(rest.resident)).set("peak resident", float64(m.peak)).set("above resting", float64(m.peak-rest.resident)), nil
}

// drain is a client that keeps nothing of an answer but its last key: grpc-go's holds a message whole before anybody sees it,
// and ten answers of 1.5 GB do not fit beside the server.
type drain struct {
	url    string
	client *http.Client
}

func newDrain(addr string) *drain {
	return &drain{url: "http://" + addr + methodRange, client: &http.Client{Transport: &http2.Transport{
		AllowHTTP: true, MaxReadFrameSize: 1 << 20,
		DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		},
	}}}
}

// list reads all pods, page by page or, with 0, in one answer.
func (d *drain) list(want, page int) error {
	defer d.client.CloseIdleConnections()
	q := query{key: []byte(podFirst), end: []byte(podEnd), limit: int64(page)}
	for seen := 0; ; {
		p, err := d.ask(q.append(nil))
		if err != nil {
			return err
		}
		seen += p.kvs
		if !p.more {
			if seen != want {
				return fmt.Errorf("the list held %d pods, want %d", seen, want)
			}
			return nil
		}
		if p.kvs == 0 {
			return errors.New("an empty page says that more follows")
		}
		q.rev, q.key = p.rev, append(append(q.key[:0], p.last...), 0)
	}
}

func (d *drain) ask(request []byte) (p page, err error) {
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(request)))
	req, err := http.NewRequest(http.MethodPost, d.url, bytes.NewReader(append(body, request...)))
	if err != nil {
		return p, err
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	answer, err := d.client.Do(req)
	if err != nil {
		return p, err
	}
	defer answer.Body.Close()
	in := bufio.NewReaderSize(answer.Body, 256<<10)
	if _, err := in.Discard(5); err != nil {
		return p, fmt.Errorf("no answer: %w; status %s %q", err, answer.Trailer.Get("Grpc-Status"), answer.Trailer.Get("Grpc-Message"))
	}
	err = p.read(in)
	if status := answer.Trailer.Get("Grpc-Status"); err == nil && status != "0" {
		err = fmt.Errorf("status %s %q", status, answer.Trailer.Get("Grpc-Message"))
	}
	return p, err
}

// read takes a RangeResponse to its end.
func (p *page) read(in *bufio.Reader) error {
	for {
		tag, err := binary.ReadUvarint(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		field, kind := protowire.DecodeTag(tag)
		v, err := binary.ReadUvarint(in)
		switch {
		case err != nil:
			return err
		case kind == protowire.VarintType:
			p.more = p.more || field == 3 && v != 0
			continue
		case kind != protowire.BytesType:
			return fmt.Errorf("field %d of a RangeResponse has wire type %d", field, kind)
		}
		n := int(v)
		switch field {
		case 1: // the header is small
			head := make([]byte, n)
			if _, err := io.ReadFull(in, head); err != nil {
				return err
			}
			rev, _, err := inner(head, 3)
			if err != nil {
				return err
			}
			n, p.rev = 0, int64(rev)
		case 2: // of a KeyValue the key comes first
			p.kvs++
			front, err := in.Peek(min(n, 128))
			if err != nil {
				return err
			}
			tag, at := protowire.ConsumeVarint(front)
			key, size := protowire.ConsumeBytes(front[max(at, 0):])
			if field, _ := protowire.DecodeTag(tag); at < 0 || size < 0 || field != 1 {
				return errors.New("a KeyValue does not begin with a short key")
			}
			p.last = append(p.last[:0], key...)
		}
		if _, err := in.Discard(n); err != nil {
			return err
		}
	}
}
