package fan

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// outward is how the store knows a range of the clients' (source: etcd v3.7 client/v3/namespace/util.go).
func (h *Hub) outward(key, end string) (ns, nsEnd []byte) {
	p := h.cfg.Namespace
	if len(p) == 0 {
		return []byte(key), []byte(end)
	}
	ns = append(slices.Clone(p), key...)
	switch {
	case end == "":
	case end == "\x00":
		nsEnd = after(p)
	default:
		nsEnd = append(slices.Clone(p), end...)
	}
	return ns, nsEnd
}

// after is the end of the range of all keys that begin with p.
func after(p []byte) []byte {
	end := slices.Clone(p)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return []byte{0}
}

// inward is an event as clients know it.
func (h *Hub) inward(event []byte) []byte {
	if len(h.cfg.Namespace) == 0 {
		return event
	}
	return eachField(event, func(dst []byte, num protowire.Number, kv []byte) []byte {
		if num == 2 || num == 3 {
			kv = eachField(kv, h.inwardKey)
		}
		return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), kv)
	})
}

// inwardKey appends a field of a KeyValue.
func (h *Hub) inwardKey(dst []byte, num protowire.Number, v []byte) []byte {
	if p := h.cfg.Namespace; num == 1 && len(v) >= len(p) {
		if v = v[len(p):]; len(v) == 0 {
			return dst
		}
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), v)
}

// eachField copies a well-formed message, with what change makes of its fields of bytes.
func eachField(m []byte, change func(dst []byte, num protowire.Number, v []byte) []byte) []byte {
	out := make([]byte, 0, len(m))
	for len(m) > 0 {
		num, typ, n := protowire.ConsumeTag(m)
		if n < 0 {
			return out
		}
		size := protowire.ConsumeFieldValue(num, typ, m[n:])
		if size < 0 {
			return out
		}
		if typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(m[n:])
			out = change(out, num, v)
		} else {
			out = append(out, m[:n+size]...)
		}
		m = m[n+size:]
	}
	return out
}
