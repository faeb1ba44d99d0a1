package wire

func (m *WatchCreateRequest) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("WatchCreateRequest", i, end)
		}
		switch f.tag {
		case 1<<3 | typeBytes:
			m.Key = f.data
		case 2<<3 | typeBytes:
			m.RangeEnd = f.data
		case 3<<3 | typeVarint:
			m.StartRevision = int64(f.v)
		case 4<<3 | typeVarint:
			m.ProgressNotify = f.v != 0
		case 5<<3 | typeVarint:
			m.Filters = append(m.Filters, FilterType(f.v))
		case 5<<3 | typeBytes: // packed
			for j := 0; j < len(f.data); {
				v, end := uvarint(f.data, j)
				if end < 0 {
					return malformed("WatchCreateRequest", i, end)
				}
				m.Filters = append(m.Filters, FilterType(v))
				j = end
			}
		case 6<<3 | typeVarint:
			m.PrevKV = f.v != 0
		case 7<<3 | typeVarint:
			m.WatchID = int64(f.v)
		case 8<<3 | typeVarint:
			m.Fragment = f.v != 0
		}
		i = end
	}
	return nil
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *WatchCreateRequest) Unmarshal(b []byte) error {
	*m = WatchCreateRequest{Filters: m.Filters[:0]}
	return m.merge(b)
}

func (m *WatchCreateRequest) filtersSize() int {
	n := 0
	for _, f := range m.Filters {
		n += sizeVarint(uint64(int64(f)))
	}
	return n
}

// Size is the length of what Append writes, in bytes.
func (m *WatchCreateRequest) Size() int {
	n := sizeBytes(m.Key) + sizeBytes(m.RangeEnd) + sizeInt(m.StartRevision) + sizeBool(m.ProgressNotify)
	if len(m.Filters) > 0 {
		n += sizeLen(m.filtersSize())
	}
	return n + sizeBool(m.PrevKV) + sizeInt(m.WatchID) + sizeBool(m.Fragment)
}

// Append appends the encoded message to dst.
func (m *WatchCreateRequest) Append(dst []byte) []byte {
	dst = appendBytes(dst, 1, m.Key)
	dst = appendBytes(dst, 2, m.RangeEnd)
	dst = appendInt(dst, 3, m.StartRevision)
	dst = appendBool(dst, 4, m.ProgressNotify)
	if len(m.Filters) > 0 {
		dst = appendLen(dst, 5, m.filtersSize())
		for _, f := range m.Filters {
			dst = appendVarint(dst, uint64(int64(f)))
		}
	}
	dst = appendBool(dst, 6, m.PrevKV)
	dst = appendInt(dst, 7, m.WatchID)
	return appendBool(dst, 8, m.Fragment)
}

// mergeCancel reads a WatchCancelRequest and gives its watch_id, id when it has none.
func mergeCancel(id int64, b []byte) (int64, error) {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return 0, malformed("WatchCancelRequest", i, end)
		}
		i = end
		if f.tag == 1<<3|typeVarint {
			id = int64(f.v)
		}
	}
	return id, nil
}

func (m *WatchRequest) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("WatchRequest", i, end)
		}
		i = end
		var err error
		switch f.tag {
		case 1<<3 | typeBytes:
			*m = WatchRequest{Create: m.Create}
			err = alternative(&m.Create, f.data)
		case 2<<3 | typeBytes:
			*m = WatchRequest{Cancel: m.Cancel}
			if m.Cancel == nil {
				m.Cancel = new(int64)
			}
			*m.Cancel, err = mergeCancel(*m.Cancel, f.data)
		case 3<<3 | typeBytes:
			*m = WatchRequest{Progress: true}
			err = check("WatchProgressRequest", f.data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *WatchRequest) Unmarshal(b []byte) error {
	*m = WatchRequest{}
	return m.merge(b)
}

func (m *WatchRequest) sizes() (field byte, body int) {
	switch {
	case m.Create != nil:
		return 1, m.Create.Size()
	case m.Cancel != nil:
		return 2, sizeInt(*m.Cancel)
	case m.Progress:
		return 3, 0
	}
	return 0, 0
}

// Size is the length of what Append writes, in bytes.
func (m *WatchRequest) Size() int {
	field, body := m.sizes()
	if field == 0 {
		return 0
	}
	return sizeLen(body)
}

// Append appends the encoded message to dst.
func (m *WatchRequest) Append(dst []byte) []byte {
	field, body := m.sizes()
	if field == 0 {
		return dst
	}
	dst = appendLen(dst, field, body)
	switch field {
	case 1:
		return m.Create.Append(dst)
	case 2:
		return appendInt(dst, 1, *m.Cancel)
	}
	return dst
}

func (m *WatchResponse) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("WatchResponse", i, end)
		}
		var err error
		switch f.tag {
		case 1<<3 | typeBytes:
			err = m.Header.merge(f.data)
		case 2<<3 | typeVarint:
			m.WatchID = int64(f.v)
		case 3<<3 | typeVarint:
			m.Created = f.v != 0
		case 4<<3 | typeVarint:
			m.Canceled = f.v != 0
		case 5<<3 | typeVarint:
			m.CompactRevision = int64(f.v)
		case 6<<3 | typeBytes:
			if m.CancelReason, end = text(f.data, end); end < 0 {
				return malformed("WatchResponse", i, end)
			}
		case 7<<3 | typeVarint:
			m.Fragment = f.v != 0
		case 11<<3 | typeBytes:
			var ev Event
			err = ev.merge(f.data)
			m.Events = append(m.Events, f.data)
		}
		if err != nil {
			return err
		}
		i = end
	}
	return nil
}

// Unmarshal replaces m by the message in b. The events alias b; the list's memory is used again.
func (m *WatchResponse) Unmarshal(b []byte) error {
	*m = WatchResponse{Events: m.Events[:0]}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *WatchResponse) Size() int {
	return sizeHeader(&m.Header) + sizeInt(m.WatchID) + sizeBool(m.Created) + sizeBool(m.Canceled) +
		sizeInt(m.CompactRevision) + sizeBytes(m.CancelReason) + sizeBool(m.Fragment) + sizeRepeated(m.Events)
}

// Append appends the encoded message to dst. Everything but the events comes first: a response may also be written as
// the message without events, followed by what AppendEventField writes for each.
func (m *WatchResponse) Append(dst []byte) []byte {
	dst = appendHeader(dst, &m.Header)
	dst = appendInt(dst, 2, m.WatchID)
	dst = appendBool(dst, 3, m.Created)
	dst = appendBool(dst, 4, m.Canceled)
	dst = appendInt(dst, 5, m.CompactRevision)
	dst = appendBytes(dst, 6, m.CancelReason)
	dst = appendBool(dst, 7, m.Fragment)
	return appendRepeated(dst, 11, m.Events)
}

// EventFieldSize is the length of what AppendEventField writes for e, in bytes.
func EventFieldSize(e *Event) int { return sizeLen(e.Size()) }

// AppendEventField appends e as one element of the events field of a WatchResponse, tag and length included, so that many
// responses can share the bytes.
func AppendEventField(dst []byte, e *Event) []byte {
	return e.Append(appendLen(dst, 11, e.Size()))
}
