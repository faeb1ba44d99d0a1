package v2http

import (
	"net/http"
	"net/url"
	"path"
	"strconv"
	"time"

	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// keySpace is where the keys of users lie in the tree, and authSpace users and roles.
const (
	keySpace  = "/1"
	authSpace = "/2"
)

// keyRequest is a parsed request for a key.
type keyRequest struct {
	wire.V2Request
	wait, stream, quorum bool
	since                uint64 // of wait
	noValue              bool   // of a write that succeeds only the action is answered
}

// parseKey makes a request of path (that of the key, without the namespace), method and the parameters of query and body, whose
// first values count. now is when TTLs begin. Errors come in etcd's order: of several things wrong the same one is told.
func parseKey(method, key string, form url.Values, now time.Time) (*keyRequest, *v2store.Error) {
	f := fields{form: form}
	q := &keyRequest{}
	q.Method, q.Path, q.Time = method, path.Join(keySpace, key), now.UnixNano()
	q.PrevIndex = f.number("prevIndex")
	q.since = f.number("waitIndex")
	q.Recursive, q.Sorted = f.flag("recursive"), f.flag("sorted")
	q.wait, q.Dir, q.quorum, q.stream = f.flag("wait"), f.flag("dir"), f.flag("quorum"), f.flag("stream")
	if q.wait && method != http.MethodGet {
		f.wrong(v2store.CodeInvalidField, `"wait" can only be used with GET requests`)
	}
	if q.PrevValue = form.Get("prevValue"); form.Has("prevValue") && q.PrevValue == "" {
		f.wrong(v2store.CodePrevValue, `"prevValue" cannot be empty`)
	}
	q.noValue = f.flag("noValueOnSuccess")
	ttl := f.ttl()
	q.PrevExist = f.choice("prevExist")
	q.Val = form.Get("value")
	q.Refresh = f.choice("refresh")
	if q.Refresh != nil && *q.Refresh {
		if q.Val != "" {
			f.wrong(v2store.CodeRefreshValue, "A value was provided on a refresh")
		}
		if ttl == nil {
			f.wrong(v2store.CodeRefreshTTL, "No TTL value set")
		}
	}
	if ttl != nil {
		// Seconds beyond what fits wrap around, as in etcd: the key has expired then.
		q.Expiration = now.Add(time.Duration(*ttl) * time.Second).UnixNano()
	}
	return q, f.err
}

// fields reads parameters. The first that is wrong counts.
type fields struct {
	form url.Values
	err  *v2store.Error
}

func (f *fields) wrong(code int, cause string) {
	if f.err == nil {
		f.err = refusal(code, cause)
	}
}

// number is 0 for a parameter that is not there; an empty one is wrong.
func (f *fields) number(name string) uint64 {
	if !f.form.Has(name) {
		return 0
	}
	n, err := strconv.ParseUint(f.form.Get(name), 10, 64)
	if err != nil {
		f.wrong(v2store.CodeIndexNotNumber, `invalid value for "`+name+`"`)
	}
	return n
}

// flag is false for a parameter that is not there; an empty one is wrong.
func (f *fields) flag(name string) bool {
	if !f.form.Has(name) {
		return false
	}
	b, err := strconv.ParseBool(f.form.Get(name))
	if err != nil {
		f.wrong(v2store.CodeInvalidField, `invalid value for "`+name+`"`)
	}
	return b
}

// choice is nil for a parameter that is not there.
func (f *fields) choice(name string) *bool {
	if !f.form.Has(name) {
		return nil
	}
	b, err := strconv.ParseBool(f.form.Get(name))
	if err != nil {
		f.wrong(v2store.CodeInvalidField, "invalid value for "+name)
	}
	return &b
}

// ttl is nil for none, which an empty one is as well.
func (f *fields) ttl() *uint64 {
	text := f.form.Get("ttl")
	if text == "" {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		f.wrong(v2store.CodeTTLNotNumber, `invalid value for "ttl"`)
	}
	return &n
}
