package wire

func (m *Header) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("ResponseHeader", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeVarint:
			m.ClusterID = f.v
		case 2<<3 | typeVarint:
			m.MemberID = f.v
		case 3<<3 | typeVarint:
			m.Revision = int64(f.v)
		case 4<<3 | typeVarint:
			m.RaftTerm = f.v
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b.
func (m *Header) Unmarshal(b []byte) error {
	*m = Header{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *Header) Size() int {
	return sizeUint(m.ClusterID) + sizeUint(m.MemberID) + sizeInt(m.Revision) + sizeUint(m.RaftTerm)
}

// Append appends the encoded message to dst.
func (m *Header) Append(dst []byte) []byte {
	dst = appendUint(dst, 1, m.ClusterID)
	dst = appendUint(dst, 2, m.MemberID)
	dst = appendInt(dst, 3, m.Revision)
	return appendUint(dst, 4, m.RaftTerm)
}

func (m *RangeRequest) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("RangeRequest", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeBytes:
			m.Key = f.data
		case 2<<3 | typeBytes:
			m.RangeEnd = f.data
		case 3<<3 | typeVarint:
			m.Limit = int64(f.v)
		case 4<<3 | typeVarint:
			m.Revision = int64(f.v)
		case 5<<3 | typeVarint:
			m.SortOrder = SortOrder(f.v)
		case 6<<3 | typeVarint:
			m.SortTarget = SortTarget(f.v)
		case 7<<3 | typeVarint:
			m.Serializable = f.v != 0
		case 8<<3 | typeVarint:
			m.KeysOnly = f.v != 0
		case 9<<3 | typeVarint:
			m.CountOnly = f.v != 0
		case 10<<3 | typeVarint:
			m.MinModRevision = int64(f.v)
		case 11<<3 | typeVarint:
			m.MaxModRevision = int64(f.v)
		case 12<<3 | typeVarint:
			m.MinCreateRevision = int64(f.v)
		case 13<<3 | typeVarint:
			m.MaxCreateRevision = int64(f.v)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *RangeRequest) Unmarshal(b []byte) error {
	*m = RangeRequest{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *RangeRequest) Size() int {
	return sizeBytes(m.Key) + sizeBytes(m.RangeEnd) + sizeInt(m.Limit) + sizeInt(m.Revision) +
		sizeInt(int64(m.SortOrder)) + sizeInt(int64(m.SortTarget)) + sizeBool(m.Serializable) +
		sizeBool(m.KeysOnly) + sizeBool(m.CountOnly) + sizeInt(m.MinModRevision) + sizeInt(m.MaxModRevision) +
		sizeInt(m.MinCreateRevision) + sizeInt(m.MaxCreateRevision)
}

// Append appends the encoded message to dst.
func (m *RangeRequest) Append(dst []byte) []byte {
	dst = appendBytes(dst, 1, m.Key)
	dst = appendBytes(dst, 2, m.RangeEnd)
	dst = appendInt(dst, 3, m.Limit)
	dst = appendInt(dst, 4, m.Revision)
	dst = appendInt(dst, 5, int64(m.SortOrder))
	dst = appendInt(dst, 6, int64(m.SortTarget))
	dst = appendBool(dst, 7, m.Serializable)
	dst = appendBool(dst, 8, m.KeysOnly)
	dst = appendBool(dst, 9, m.CountOnly)
	dst = appendInt(dst, 10, m.MinModRevision)
	dst = appendInt(dst, 11, m.MaxModRevision)
	dst = appendInt(dst, 12, m.MinCreateRevision)
	return appendInt(dst, 13, m.MaxCreateRevision)
}

func (m *PutRequest) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("PutRequest", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeBytes:
			m.Key = f.data
		case 2<<3 | typeBytes:
			m.Value = f.data
		case 3<<3 | typeVarint:
			m.Lease = int64(f.v)
		case 4<<3 | typeVarint:
			m.PrevKV = f.v != 0
		case 5<<3 | typeVarint:
			m.IgnoreValue = f.v != 0
		case 6<<3 | typeVarint:
			m.IgnoreLease = f.v != 0
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *PutRequest) Unmarshal(b []byte) error {
	*m = PutRequest{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *PutRequest) Size() int {
	return sizeBytes(m.Key) + sizeBytes(m.Value) + sizeInt(m.Lease) + sizeBool(m.PrevKV) +
		sizeBool(m.IgnoreValue) + sizeBool(m.IgnoreLease)
}

// Append appends the encoded message to dst.
func (m *PutRequest) Append(dst []byte) []byte {
	dst = appendBytes(dst, 1, m.Key)
	dst = appendBytes(dst, 2, m.Value)
	dst = appendInt(dst, 3, m.Lease)
	dst = appendBool(dst, 4, m.PrevKV)
	dst = appendBool(dst, 5, m.IgnoreValue)
	return appendBool(dst, 6, m.IgnoreLease)
}

func (m *DeleteRangeRequest) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("DeleteRangeRequest", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeBytes:
			m.Key = f.data
		case 2<<3 | typeBytes:
			m.RangeEnd = f.data
		case 3<<3 | typeVarint:
			m.PrevKV = f.v != 0
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *DeleteRangeRequest) Unmarshal(b []byte) error {
	*m = DeleteRangeRequest{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *DeleteRangeRequest) Size() int {
	return sizeBytes(m.Key) + sizeBytes(m.RangeEnd) + sizeBool(m.PrevKV)
}

// Append appends the encoded message to dst.
func (m *DeleteRangeRequest) Append(dst []byte) []byte {
	dst = appendBytes(dst, 1, m.Key)
	dst = appendBytes(dst, 2, m.RangeEnd)
	return appendBool(dst, 3, m.PrevKV)
}

func (m *CompactionRequest) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("CompactionRequest", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeVarint:
			m.Revision = int64(f.v)
		case 2<<3 | typeVarint:
			m.Physical = f.v != 0
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b.
func (m *CompactionRequest) Unmarshal(b []byte) error {
	*m = CompactionRequest{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *CompactionRequest) Size() int {
	return sizeInt(m.Revision) + sizeBool(m.Physical)
}

// Append appends the encoded message to dst.
func (m *CompactionRequest) Append(dst []byte) []byte {
	dst = appendInt(dst, 1, m.Revision)
	return appendBool(dst, 2, m.Physical)
}

// sizeHeader and appendHeader write the header as field 1, nothing when it is all zero.

func sizeHeader(h *Header) int {
	if *h == (Header{}) {
		return 0
	}
	return sizeLen(h.Size())
}

func appendHeader(dst []byte, h *Header) []byte {
	if *h == (Header{}) {
		return dst
	}
	return h.Append(appendLen(dst, 1, h.Size()))
}

// sizeRepeated and appendRepeated are for a repeated sub-message in encoded form, tag of one byte.

func sizeRepeated(list [][]byte) int {
	n := 0
	for _, b := range list {
		n += sizeLen(len(b))
	}
	return n
}

func appendRepeated(dst []byte, num byte, list [][]byte) []byte {
	for _, b := range list {
		dst = append(appendLen(dst, num, len(b)), b...)
	}
	return dst
}

func (m *RangeResponse) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("RangeResponse", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeBytes:
			if err := m.Header.merge(f.data); err != nil {
				return err
			}
		case 2<<3 | typeBytes:
			if err := checkKeyValue(f.data); err != nil {
				return err
			}
			m.KVs = append(m.KVs, f.data)
		case 3<<3 | typeVarint:
			m.More = f.v != 0
		case 4<<3 | typeVarint:
			m.Count = int64(f.v)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. The records alias b; the list's memory is used again.
func (m *RangeResponse) Unmarshal(b []byte) error {
	*m = RangeResponse{KVs: m.KVs[:0]}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *RangeResponse) Size() int {
	return sizeHeader(&m.Header) + sizeRepeated(m.KVs) + sizeBool(m.More) + sizeInt(m.Count)
}

// Append appends the encoded message to dst.
func (m *RangeResponse) Append(dst []byte) []byte {
	dst = appendHeader(dst, &m.Header)
	dst = appendRepeated(dst, 2, m.KVs)
	dst = appendBool(dst, 3, m.More)
	return appendInt(dst, 4, m.Count)
}

func (m *PutResponse) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("PutResponse", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeBytes:
			if err := m.Header.merge(f.data); err != nil {
				return err
			}
		case 2<<3 | typeBytes:
			if err := checkKeyValue(f.data); err != nil {
				return err
			}
			m.PrevKV = merged(m.PrevKV, f.data)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. PrevKV aliases b.
func (m *PutResponse) Unmarshal(b []byte) error {
	*m = PutResponse{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *PutResponse) Size() int { return sizeHeader(&m.Header) + sizeSub(m.PrevKV) }

// Append appends the encoded message to dst.
func (m *PutResponse) Append(dst []byte) []byte {
	return appendSub(appendHeader(dst, &m.Header), 2, m.PrevKV)
}

func (m *DeleteRangeResponse) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("DeleteRangeResponse", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeBytes:
			if err := m.Header.merge(f.data); err != nil {
				return err
			}
		case 2<<3 | typeVarint:
			m.Deleted = int64(f.v)
		case 3<<3 | typeBytes:
			if err := checkKeyValue(f.data); err != nil {
				return err
			}
			m.PrevKVs = append(m.PrevKVs, f.data)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. The records alias b; the list's memory is used again.
func (m *DeleteRangeResponse) Unmarshal(b []byte) error {
	*m = DeleteRangeResponse{PrevKVs: m.PrevKVs[:0]}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *DeleteRangeResponse) Size() int {
	return sizeHeader(&m.Header) + sizeInt(m.Deleted) + sizeRepeated(m.PrevKVs)
}

// Append appends the encoded message to dst.
func (m *DeleteRangeResponse) Append(dst []byte) []byte {
	dst = appendHeader(dst, &m.Header)
	dst = appendInt(dst, 2, m.Deleted)
	return appendRepeated(dst, 3, m.PrevKVs)
}
