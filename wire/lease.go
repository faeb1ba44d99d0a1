package wire

func (m *LeaseGrantRequest) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("LeaseGrantRequest", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeVarint:
			m.TTL = int64(f.v)
		case 2<<3 | typeVarint:
			m.ID = int64(f.v)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b.
func (m *LeaseGrantRequest) Unmarshal(b []byte) error {
	*m = LeaseGrantRequest{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *LeaseGrantRequest) Size() int {
	return sizeInt(m.TTL) + sizeInt(m.ID)
}

// Append appends the encoded message to dst.
func (m *LeaseGrantRequest) Append(dst []byte) []byte {
	dst = appendInt(dst, 1, m.TTL)
	return appendInt(dst, 2, m.ID)
}

func (m *LeaseRevokeRequest) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("LeaseRevokeRequest", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeVarint:
			m.ID = int64(f.v)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b.
func (m *LeaseRevokeRequest) Unmarshal(b []byte) error {
	*m = LeaseRevokeRequest{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *LeaseRevokeRequest) Size() int {
	return sizeInt(m.ID)
}

// Append appends the encoded message to dst.
func (m *LeaseRevokeRequest) Append(dst []byte) []byte {
	return appendInt(dst, 1, m.ID)
}

func (m *LeaseCheckpoint) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("LeaseCheckpoint", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeVarint:
			m.ID = int64(f.v)
		case 2<<3 | typeVarint:
			m.RemainingTTL = int64(f.v)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b.
func (m *LeaseCheckpoint) Unmarshal(b []byte) error {
	*m = LeaseCheckpoint{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *LeaseCheckpoint) Size() int {
	return sizeInt(m.ID) + sizeInt(m.RemainingTTL)
}

// Append appends the encoded message to dst.
func (m *LeaseCheckpoint) Append(dst []byte) []byte {
	dst = appendInt(dst, 1, m.ID)
	return appendInt(dst, 2, m.RemainingTTL)
}

func (m *LeaseKeepAliveRequest) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("LeaseKeepAliveRequest", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeVarint:
			m.ID = int64(f.v)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b.
func (m *LeaseKeepAliveRequest) Unmarshal(b []byte) error {
	*m = LeaseKeepAliveRequest{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *LeaseKeepAliveRequest) Size() int {
	return sizeInt(m.ID)
}

// Append appends the encoded message to dst.
func (m *LeaseKeepAliveRequest) Append(dst []byte) []byte {
	return appendInt(dst, 1, m.ID)
}

func (m *LeaseCheckpointRequest) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("LeaseCheckpointRequest", i, end)
		}
		i = end
		if f.tag == 1<<3|typeBytes {
			var c LeaseCheckpoint
			if err := c.merge(f.data); err != nil {
				return err
			}
			m.Checkpoints = append(m.Checkpoints, c)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. The list's memory is used again.
func (m *LeaseCheckpointRequest) Unmarshal(b []byte) error {
	*m = LeaseCheckpointRequest{Checkpoints: m.Checkpoints[:0]}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *LeaseCheckpointRequest) Size() int {
	n := 0
	for i := range m.Checkpoints {
		n += sizeLen(m.Checkpoints[i].Size())
	}
	return n
}

// Append appends the encoded message to dst.
func (m *LeaseCheckpointRequest) Append(dst []byte) []byte {
	for i := range m.Checkpoints {
		c := &m.Checkpoints[i]
		dst = c.Append(appendLen(dst, 1, c.Size()))
	}
	return dst
}

func (m *LeaseKeepAliveResponse) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("LeaseKeepAliveResponse", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeBytes:
			if err := m.Header.merge(f.data); err != nil {
				return err
			}
		case 2<<3 | typeVarint:
			m.ID = int64(f.v)
		case 3<<3 | typeVarint:
			m.TTL = int64(f.v)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b.
func (m *LeaseKeepAliveResponse) Unmarshal(b []byte) error {
	*m = LeaseKeepAliveResponse{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *LeaseKeepAliveResponse) Size() int {
	return sizeHeader(&m.Header) + sizeInt(m.ID) + sizeInt(m.TTL)
}

// Append appends the encoded message to dst.
func (m *LeaseKeepAliveResponse) Append(dst []byte) []byte {
	return appendInt(appendInt(appendHeader(dst, &m.Header), 2, m.ID), 3, m.TTL)
}
