package wire

func (m *KeyValue) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("KeyValue", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeBytes:
			m.Key = f.data
		case 2<<3 | typeVarint:
			m.CreateRevision = int64(f.v)
		case 3<<3 | typeVarint:
			m.ModRevision = int64(f.v)
		case 4<<3 | typeVarint:
			m.Version = int64(f.v)
		case 5<<3 | typeBytes:
			m.Value = f.data
		case 6<<3 | typeVarint:
			m.Lease = int64(f.v)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *KeyValue) Unmarshal(b []byte) error {
	*m = KeyValue{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *KeyValue) Size() int {
	return sizeBytes(m.Key) + sizeInt(m.CreateRevision) + sizeInt(m.ModRevision) + sizeInt(m.Version) +
		sizeBytes(m.Value) + sizeInt(m.Lease)
}

// Append appends the encoded message to dst.
func (m *KeyValue) Append(dst []byte) []byte { return AppendKeyValue(dst, m) }

// AppendKeyValue appends the encoded kv to dst: the canonical form that the helpers below read.
func AppendKeyValue(dst []byte, kv *KeyValue) []byte {
	dst = appendBytes(dst, 1, kv.Key)
	dst = appendInt(dst, 2, kv.CreateRevision)
	dst = appendInt(dst, 3, kv.ModRevision)
	dst = appendInt(dst, 4, kv.Version)
	dst = appendBytes(dst, 5, kv.Value)
	return appendInt(dst, 6, kv.Lease)
}

// checkKeyValue says whether b is a well-formed KeyValue.
func checkKeyValue(b []byte) error {
	var kv KeyValue
	return kv.merge(b)
}

// The functions below read one field of a KeyValue in canonical form (as AppendKeyValue writes it: fields ascending, each
// at most once) without decoding the rest. Other well-formed input gives the first occurrence; malformed input gives the
// zero value. Returned bytes alias kv.

// KeyOf is the key of a KeyValue in canonical form.
func KeyOf(kv []byte) []byte { return bytesField(kv, 1) }

// ValueOf is the value of a KeyValue in canonical form.
func ValueOf(kv []byte) []byte { return bytesField(kv, 5) }

// CreateRevisionOf is the create_revision of a KeyValue in canonical form.
func CreateRevisionOf(kv []byte) int64 { return intField(kv, 2) }

// ModRevisionOf is the mod_revision of a KeyValue in canonical form.
func ModRevisionOf(kv []byte) int64 { return intField(kv, 3) }

// VersionOf is the version of a KeyValue in canonical form.
func VersionOf(kv []byte) int64 { return intField(kv, 4) }

// LeaseOf is the lease of a KeyValue in canonical form, 0 for none.
func LeaseOf(kv []byte) int64 { return intField(kv, 6) }

// find reads the first field with this tag.
func find(b []byte, want uint64) field {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			break
		}
		if f.tag == want {
			return f
		}
		i = end
	}
	return field{}
}

func bytesField(b []byte, num uint64) []byte { return find(b, num<<3|typeBytes).data }

func intField(b []byte, num uint64) int64 { return int64(find(b, num<<3|typeVarint).v) }

// StripValue appends to dst the keys_only form of a KeyValue in canonical form: without value and without lease, as etcd
// 3.7 answers it. It appends nothing for malformed input.
func StripValue(dst, kv []byte) []byte { return append(dst, kv[:StrippedSize(kv)]...) }

// StrippedSize is the length of what StripValue appends, in bytes.
func StrippedSize(kv []byte) int {
	i := 0
	for i < len(kv) {
		f, end := next(kv, i)
		if end < 0 {
			return 0
		}
		if f.tag>>3 >= 5 {
			break
		}
		i = end
	}
	return i
}

func (m *Event) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("Event", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeVarint:
			m.Type = EventType(f.v)
		case 2<<3 | typeBytes:
			if err := checkKeyValue(f.data); err != nil {
				return err
			}
			m.KV = merged(m.KV, f.data)
		case 3<<3 | typeBytes:
			if err := checkKeyValue(f.data); err != nil {
				return err
			}
			m.PrevKV = merged(m.PrevKV, f.data)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. KV and PrevKV alias b.
func (m *Event) Unmarshal(b []byte) error {
	*m = Event{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *Event) Size() int { return sizeInt(int64(m.Type)) + sizeSub(m.KV) + sizeSub(m.PrevKV) }

// Append appends the encoded message to dst. A nil KV or PrevKV is absent; an empty one is an empty message.
func (m *Event) Append(dst []byte) []byte {
	dst = appendInt(dst, 1, int64(m.Type))
	dst = appendSub(dst, 2, m.KV)
	return appendSub(dst, 3, m.PrevKV)
}
