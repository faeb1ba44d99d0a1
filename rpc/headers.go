package rpc

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

// request is one decoded header block. It is immutable once built, but for what is derived from it, and shared by all calls of a connection that sent
// equal headers; grpc-timeout, which differs from call to call, is kept beside it.
type request struct {
	raw []hpack.HeaderField // as received; grpc-timeout's value is not compared

	method, scheme, path, authority string
	contentType                     string
	encoding                        string
	meta                            []hpack.HeaderField // what Metadata sees, binary values decoded
	length                          int64               // content-length, -1 when absent

	malformed string              // why the block violates HTTP/2, "" when it does not
	failed    *Status             // why it violates gRPC's rules, nil when it does not
	route     *method             // nil when no method is registered under path
	derived   atomic.Pointer[any] // see exchange.Derived
}

// method is a registered method.
type method struct {
	path   string
	unary  UnaryHandler
	stream StreamHandler
}

// headReader decodes header blocks. The reader goroutine owns it.
type headReader struct {
	dec    *hpack.Decoder
	cached [requestsCached]*request
	next   int // slot of cached that is overwritten next

	blocks knownBlocks
	open   bool // a block has begun and not ended

	// The block being decoded.
	streamID uint32
	ends     bool     // END_STREAM was on its HEADERS frame
	selfDep  bool     // it depends on itself
	like     *request // a cached request equal to what was decoded so far
	matched  int      // fields of like seen
	fields   []hpack.HeaderField
	timeout  string // grpc-timeout's value
	listed   int    // size of the decoded list, bytes as SETTINGS_MAX_HEADER_LIST_SIZE counts
	block    int    // compressed bytes so far
	frames   int
}

func (h *headReader) init() {
	h.dec = hpack.NewDecoder(hpackTableBytes, h.field)
	h.dec.SetMaxStringLength(headerListBytes)
}

// begin starts the block of a HEADERS frame.
func (h *headReader) begin(streamID uint32, ends, selfDep bool) {
	h.streamID, h.ends, h.selfDep, h.open = streamID, ends, selfDep, true
	h.like, h.matched, h.timeout = h.cached[0], 0, ""
	h.fields = h.fields[:0]
	h.listed, h.block, h.frames = 0, 0, 0
	h.dec.SetEmitEnabled(true)
}

// tooLong says that the block, though decoded to keep the table in step, is larger than what was granted.
func (h *headReader) tooLong() bool { return h.listed > headerListBytes }

// field takes one decoded field.
func (h *headReader) field(f hpack.HeaderField) {
	h.listed += len(f.Name) + len(f.Value) + 32
	if h.tooLong() {
		h.dec.SetEmitEnabled(false)
		return
	}
	if f.Name == "grpc-timeout" {
		h.timeout = f.Value
	}
	if h.like != nil {
		if h.like.has(h.matched, f) || h.alike(f) {
			h.matched++
			return
		}
		h.fields = append(h.fields, h.like.raw[:h.matched]...)
		h.like = nil
	}
	h.fields = append(h.fields, f)
}

// has reports whether f is field i of r.
func (r *request) has(i int, f hpack.HeaderField) bool {
	return i < len(r.raw) && r.raw[i].Name == f.Name && (r.raw[i].Value == f.Value || f.Name == "grpc-timeout")
}

// alike switches to another cached request that begins with the fields seen so far and continues with f.
func (h *headReader) alike(f hpack.HeaderField) bool {
	for _, r := range h.cached {
		if r == nil || r == h.like || !r.has(h.matched, f) {
			continue
		}
		same := true
		for i := 0; i < h.matched && same; i++ {
			same = r.has(i, h.like.raw[i])
		}
		if same {
			h.like = r
			return true
		}
	}
	return false
}

// end closes the block and returns it parsed. The request is nil when the list was too long.
func (h *headReader) end(routes map[string]*method) (*request, error) {
	if err := h.dec.Close(); err != nil {
		return nil, err
	}
	if h.tooLong() {
		return nil, nil
	}
	if h.like != nil {
		if h.matched == len(h.like.raw) {
			return h.like, nil
		}
		h.fields = append(h.fields, h.like.raw[:h.matched]...)
	}
	r := parseRequest(slices.Clone(h.fields))
	clear(h.fields)
	if r.malformed == "" && r.failed == nil {
		r.route = routes[r.path]
		if r.method != "" && h.listed <= requestCachable {
			h.cached[h.next] = r
			h.next = (h.next + 1) % len(h.cached)
		}
	}
	return r, nil
}

// parseRequest checks a header list against RFC 9113 section 8 and sorts it. Rules of requests alone (the pseudo
// headers that must be present) are checked by checkRequest, because trailers go through here too.
func parseRequest(fields []hpack.HeaderField) *request {
	r := &request{raw: fields, length: -1}
	regular := false
	for _, f := range fields {
		if !strings.HasPrefix(f.Name, ":") {
			regular = true
			r.regular(f)
		} else if regular {
			r.malformed = "pseudo header field " + f.Name + " after a regular one"
		} else {
			r.pseudo(f)
		}
		if r.malformed != "" {
			return r
		}
	}
	if r.authority != "" {
		r.meta = append(r.meta, hpack.HeaderField{Name: ":authority", Value: r.authority})
	}
	return r
}

func (r *request) pseudo(f hpack.HeaderField) {
	var to *string
	switch f.Name {
	case ":method":
		to = &r.method
	case ":scheme":
		to = &r.scheme
	case ":path":
		to = &r.path
	case ":authority":
		to = &r.authority
	default:
		r.malformed = "pseudo header field " + f.Name + " is not one of a request"
		return
	}
	if *to != "" || (f.Value == "" && f.Name != ":authority") {
		r.malformed = "pseudo header field " + f.Name + " is empty or given twice"
		return
	}
	*to = f.Value
}

func (r *request) regular(f hpack.HeaderField) {
	if !validFieldName(f.Name) || !httpguts.ValidHeaderFieldValue(f.Value) {
		r.malformed = fmt.Sprintf("invalid header field %q", f.Name)
		return
	}
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		r.malformed = "header field " + f.Name + " has no place in HTTP/2"
		return
	case "te":
		if f.Value != "trailers" && f.Value != "" {
			r.malformed = "te may only be trailers in HTTP/2"
		}
		return
	case "content-length":
		n, err := strconv.ParseInt(f.Value, 10, 64)
		if err != nil || n < 0 || (r.length >= 0 && r.length != n) {
			r.malformed = fmt.Sprintf("invalid content-length %q", f.Value)
			return
		}
		r.length = n
	case "host":
		if r.authority == "" {
			r.authority = f.Value
		}
		return
	case "content-type":
		r.contentType = f.Value
	case "grpc-encoding":
		r.encoding = f.Value
		return
	case "grpc-timeout", "grpc-message-type", "grpc-message", "grpc-status":
		return
	}
	r.metadata(f)
}

// metadata adds a field that handlers may see.
func (r *request) metadata(f hpack.HeaderField) {
	if !strings.HasSuffix(f.Name, "-bin") {
		r.meta = append(r.meta, f)
		return
	}
	for v := range strings.SplitSeq(f.Value, ",") {
		plain, err := decodeBin(v)
		if err != nil {
			r.failed = statusf(Internal, "malformed binary metadata %q in header %q: %v", f.Value, f.Name, err)
			return
		}
		r.meta = append(r.meta, hpack.HeaderField{Name: f.Name, Value: plain})
	}
}

// checkRequest returns why r cannot open a stream, "" when it can.
func (r *request) checkRequest() string {
	switch {
	case r.malformed != "":
		return r.malformed
	case r.method == "":
		return "no :method"
	case r.method == "CONNECT":
		return ""
	case r.scheme == "" || r.path == "":
		return "no :scheme or no :path"
	}
	return ""
}

// badTrailers reports whether r may not end a request: it is malformed or has pseudo header fields.
func (r *request) badTrailers() bool {
	return r.malformed != "" || r.method != "" || r.scheme != "" || r.path != ""
}

// isGRPC reports whether the content type makes this a gRPC request: application/grpc, alone or with +subtype or ;parameters.
func (r *request) isGRPC() bool {
	rest, ok := strings.CutPrefix(r.contentType, grpcContentType)
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

const grpcContentType = "application/grpc"

// validFieldName reports whether name is a token without upper-case letters.
func validFieldName(name string) bool {
	if name == "" {
		return false
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; c >= 'A' && c <= 'Z' || !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	return true
}

// parseTimeout reads a grpc-timeout: at most 8 digits and a unit. Source: gRPC over HTTP2, "Timeout".
func parseTimeout(v string) (time.Duration, error) {
	if len(v) < 2 {
		return 0, fmt.Errorf("transport: timeout string is too short: %q", v)
	}
	if len(v) > 9 {
		return 0, fmt.Errorf("transport: timeout string is too long: %q", v)
	}
	var unit time.Duration
	switch v[len(v)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, fmt.Errorf("transport: timeout unit is not recognized: %q", v)
	}
	n, err := strconv.ParseUint(v[:len(v)-1], 10, 64)
	if err != nil {
		return 0, err
	}
	if n > uint64(math.MaxInt64/unit) {
		return math.MaxInt64, nil
	}
	return time.Duration(n) * unit, nil
}

// pair is a header or trailer set by a handler.
type pair struct{ name, value string }

// appendLiteral appends a field that enters no table and is not Huffman coded (RFC 7541 section 6.2.2).
func appendLiteral(dst []byte, name, value string) []byte {
	dst = append(dst, 0)
	dst = appendString(dst, name)
	return appendString(dst, value)
}

func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = appendInt(dst, 0, 7, uint64(len(s)))
	return append(dst, s...)
}

// appendInt appends n with an n-bit prefix in a byte that already has the bits of first (RFC 7541 section 5.1).
func appendInt(dst []byte, first byte, bits uint, n uint64) []byte {
	limit := uint64(1)<<bits - 1
	if n < limit {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(limit))
	for n -= limit; n >= 128; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// appendPairs appends what a handler set; values of -bin names are base64 without padding.
func appendPairs(dst []byte, pairs []pair) []byte {
	for _, p := range pairs {
		v := p.value
		if strings.HasSuffix(p.name, "-bin") {
			v = base64.RawStdEncoding.EncodeToString([]byte(v))
		}
		dst = appendLiteral(dst, p.name, v)
	}
	return dst
}

// reserved reports whether a handler may not set name: HTTP/2 and gRPC own it.
func reserved(name string) bool {
	switch name {
	case "content-type", "grpc-message-type", "grpc-encoding", "grpc-message", "grpc-status", "grpc-status-details-bin", "grpc-timeout", "te",
		"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "user-agent":
		return true
	}
	return strings.HasPrefix(name, ":") || !validFieldName(name)
}

// Tables of the peer's HPACK decoder, as this side fills it.
const (
	tableEmpty  = iota // nothing inserted yet
	tableType          // content-type: application/grpc inserted
	tableStatus        // and then grpc-status: 0
	tableNone          // the peer wants a small table: nothing is ever inserted
)

// headEncoder writes response header blocks. Only two fields ever enter the peer's table, so that the headers and the
// trailers of a successful call are three bytes together. conn.mu protects it.
type headEncoder struct {
	table  int
	shrink bool // the next block must begin with a table size update to zero
}

// setTableSize takes the peer's SETTINGS_HEADER_TABLE_SIZE. A peer that wants less than the default gets no insertions at all.
func (e *headEncoder) setTableSize(n uint32) {
	if n < hpackTableBytes {
		e.table, e.shrink = tableNone, true
	}
}

// Static table (RFC 7541 appendix A) entries used here.
const (
	staticStatus200   = 0x80 | 8
	staticStatus      = 8
	staticContentType = 31
)

func (e *headEncoder) begin(dst []byte) []byte {
	if e.shrink {
		e.shrink = false
		dst = append(dst, 0x20)
	}
	return dst
}

// appendGRPC appends :status 200 and the content type of a gRPC answer.
func (e *headEncoder) appendGRPC(dst []byte, contentType string) []byte {
	dst = append(e.begin(dst), staticStatus200)
	if contentType != grpcContentType {
		dst = appendInt(dst, 0, 4, staticContentType)
		return appendString(dst, contentType)
	}
	switch e.table {
	case tableEmpty:
		e.table = tableType
		dst = appendInt(dst, 0x40, 6, staticContentType)
		return appendString(dst, grpcContentType)
	case tableType:
		return append(dst, 0x80|62)
	case tableStatus:
		return append(dst, 0x80|63)
	}
	dst = appendInt(dst, 0, 4, staticContentType)
	return appendString(dst, grpcContentType)
}

// appendStatus appends grpc-status and what goes with it.
func (e *headEncoder) appendStatus(dst []byte, st *Status) []byte {
	if st != nil && st.Code != OK {
		var digits [10]byte
		dst = append(dst, 0)
		dst = appendString(dst, "grpc-status")
		dst = appendString(dst, strconv.AppendUint(digits[:0], uint64(st.Code), 10))
		dst = append(dst, 0)
		dst = appendString(dst, "grpc-message")
		dst = appendString(dst, appendPercent(nil, st.Message))
		if len(st.Details) > 0 {
			dst = appendLiteral(dst, "grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(st.Details))
		}
		return dst
	}
	switch e.table {
	case tableType:
		e.table = tableStatus
		dst = append(dst, 0x40)
	case tableStatus:
		return append(dst, 0x80|62)
	default:
		dst = append(dst, 0)
	}
	dst = appendString(dst, "grpc-status")
	return appendString(dst, "0")
}
