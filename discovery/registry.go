package discovery

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

const (
	dialDefault   = 2 * time.Second // to connect, when nothing is said
	registryRetry = time.Second     // between questions while members are missing or the service does not answer
	registryRoot  = "/_etcd/registry"
)

// Registry is a running cluster, of etcd or of this store, in which the members of a new one find each other: under the token
// it holds how many they are, and each adds itself (source: etcd v3.7 server/etcdserver/api/v3discovery).
type Registry struct {
	Endpoints      []string // host:port, http://host:port or https://host:port, tried in this order
	Token          string   // of the new cluster
	DialTimeout    time.Duration
	RequestTimeout time.Duration // 0 waits for ever
	Clock          clock.Clock
	TLS            *tls.Config // for endpoints with https://, and for those without http:// when it is not nil

	// Report is told, once for each change, how many of size members are there (0 when that is not known), or why the service
	// could not be asked; then it is asked again.
	Report func(there, size int, err error)
}

// permanentError ends the discovery: asking again cannot help.
type permanentError struct{ error }

// Join registers this member, as name=url pairs, under its id and waits until all are there or ctx ends. It returns them in the
// form of --initial-cluster, the same for every member: those that came first. Asking again after a success or an interruption
// gives the same answer.
func (r *Registry) Join(ctx context.Context, id, own string) (initial string, err error) {
	again := r.Clock.NewTicker(registryRetry)
	defer again.Stop()
	last := ""
	for {
		there, size, err := r.step(ctx, id, own)
		if final := (permanentError{}); errors.As(err, &final) {
			return "", fmt.Errorf("discovery token %q at %v: %w", r.Token, r.Endpoints, final.error)
		}
		if err == nil && len(there) == size {
			return strings.Join(there, ","), nil
		}
		if now := fmt.Sprint(len(there), size, err); now != last && ctx.Err() == nil {
			last = now
			r.Report(len(there), size, err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return "", fmt.Errorf("discovery token %q at %v: %d of %d members had come (%v): %w", r.Token, r.Endpoints, len(there), size, err, ctx.Err())
		}
	}
}

// step asks once who is there, and registers this member when it is not and there is room.
func (r *Registry) step(ctx context.Context, id, own string) (there []string, size int, err error) {
	if size, err = r.size(ctx); err != nil {
		return nil, 0, err
	}
	key := r.key("members", id)
	for range 2 {
		var found bool
		if there, found, err = r.members(ctx, size, key, own); err != nil || found {
			return there, size, err
		}
		if len(there) == size {
			return nil, 0, permanentError{fmt.Errorf("the cluster is full: its %d members are %v, and this one (%s, %s) came too late. Use another token, or add it as a member", size, there, key, own)}
		}
		put := wire.TxnRequest{
			Compare: []wire.Compare{{Result: wire.CompareEqual, Target: wire.CompareCreate, Key: []byte(key), Union: 5}},
			Success: []wire.RequestOp{{Put: &wire.PutRequest{Key: []byte(key), Value: []byte(own)}}},
		}
		if _, err = r.call(ctx, lean.Txn, &put); err != nil {
			return there, size, err
		}
	}
	return there, size, fmt.Errorf("%s was written and is not there", key)
}

func (r *Registry) key(parts ...string) string {
	return path.Join(append([]string{registryRoot, r.Token}, parts...)...)
}

func (r *Registry) size(ctx context.Context) (int, error) {
	key := r.key("_config/size")
	kvs, err := r.get(ctx, &wire.RangeRequest{Key: []byte(key)})
	if err != nil {
		return 0, err
	}
	if len(kvs) == 0 {
		return 0, permanentError{fmt.Errorf("the size of the cluster is not there: put the number of members under %s", key)}
	}
	n, err := strconv.Atoi(string(kvs[0].Value))
	if err != nil || n <= 0 {
		return 0, permanentError{fmt.Errorf("%s holds %q: it must be the number of members, at least 1", key, kvs[0].Value)}
	}
	return n, nil
}

// members returns those that came first, at most size, and whether this one is among them.
func (r *Registry) members(ctx context.Context, size int, key, own string) (there []string, found bool, err error) {
	prefix := []byte(r.key("members") + "/")
	end := bytes.Clone(prefix)
	end[len(end)-1]++
	kvs, err := r.get(ctx, &wire.RangeRequest{Key: prefix, RangeEnd: end, Limit: int64(size), SortTarget: wire.SortByCreate, SortOrder: wire.SortAscend})
	for _, kv := range kvs {
		value := strings.TrimSpace(string(kv.Value))
		switch {
		case !strings.Contains(value, "="):
			return nil, false, permanentError{fmt.Errorf("%s holds %q: it must be name=peer-URL pairs. Delete it", kv.Key, value)}
		case string(kv.Key) == key && value != own:
			return nil, false, permanentError{fmt.Errorf("%s holds %q and this member is %q: start it as it was, or use another token", key, value, own)}
		}
		found = found || string(kv.Key) == key
		there = append(there, value)
	}
	return there, found, err
}

func (r *Registry) get(ctx context.Context, req *wire.RangeRequest) ([]wire.KeyValue, error) {
	body, err := r.call(ctx, lean.Range, req)
	if err != nil {
		return nil, err
	}
	var resp wire.RangeResponse
	if err := resp.Unmarshal(body); err != nil {
		return nil, err
	}
	kvs := make([]wire.KeyValue, len(resp.KVs))
	for i := range kvs {
		if err := kvs[i].Unmarshal(resp.KVs[i]); err != nil {
			return nil, err
		}
	}
	return kvs, nil
}

// call asks one endpoint after the other until one answers, each on a connection of its own: there are few questions.
func (r *Registry) call(ctx context.Context, m lean.Method, req lean.Message) ([]byte, error) {
	var failures []error
	for _, e := range r.Endpoints {
		body, err := r.callAt(ctx, e, m, req)
		if err == nil {
			return body, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", e, err))
	}
	return nil, errors.Join(failures...)
}

// answer carries the end of a call out of the connection's reader.
type answer chan outcome

type outcome struct {
	body []byte
	err  error
}

// Done implements lean.Completion.
func (a answer) Done(body []byte, err error) { a <- outcome{bytes.Clone(body), err} }

func (r *Registry) callAt(ctx context.Context, endpoint string, m lean.Method, req lean.Message) ([]byte, error) {
	address, plain := strings.CutPrefix(endpoint, "http://")
	address, secure := strings.CutPrefix(address, "https://")
	conf := r.TLS
	switch {
	case plain:
		conf = nil
	case secure && conf == nil:
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	dialing, cancel := context.WithTimeout(ctx, cmp.Or(r.DialTimeout, dialDefault))
	defer cancel()
	conn, err := lean.Dial(dialing, lean.Config{Address: address, Timeout: r.RequestTimeout, TLS: conf})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	done := make(answer, 1)
	if err := conn.Call(m, req, done); err != nil {
		return nil, err
	}
	_ = conn.Flush() // a failure ends the connection, and with it the call
	select {
	case o := <-done:
		return o.body, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
