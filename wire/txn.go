package wire

// The fields of Compare's oneof target_union, as Compare.Union names them; 0 is none.
const (
	UnionVersion int32 = 4
	UnionCreate  int32 = 5
	UnionMod     int32 = 6
	UnionValue   int32 = 7
	UnionLease   int32 = 8
)

func (m *Compare) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("Compare", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeVarint:
			m.Result = CompareResult(f.v)
		case 2<<3 | typeVarint:
			m.Target = CompareTarget(f.v)
		case 3<<3 | typeBytes:
			m.Key = f.data
		case 4<<3 | typeVarint, 5<<3 | typeVarint, 6<<3 | typeVarint, 8<<3 | typeVarint:
			m.Union, m.Number, m.Value = int32(f.tag>>3), int64(f.v), nil
		case 7<<3 | typeBytes:
			m.Union, m.Number, m.Value = UnionValue, 0, f.data
		case 64<<3 | typeBytes:
			m.RangeEnd = f.data
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *Compare) Unmarshal(b []byte) error {
	*m = Compare{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *Compare) Size() int {
	n := sizeInt(int64(m.Result)) + sizeInt(int64(m.Target)) + sizeBytes(m.Key)
	switch m.Union {
	case UnionVersion, UnionCreate, UnionMod, UnionLease:
		n += 1 + sizeVarint(uint64(m.Number))
	case UnionValue:
		n += sizeLen(len(m.Value))
	}
	if len(m.RangeEnd) > 0 {
		n += 1 + sizeLen(len(m.RangeEnd)) // a tag of two bytes
	}
	return n
}

// Append appends the encoded message to dst. The target's union is written also when it is zero, and comes last: the
// generated code writes members of a oneof after all other fields.
func (m *Compare) Append(dst []byte) []byte {
	dst = appendInt(dst, 1, int64(m.Result))
	dst = appendInt(dst, 2, int64(m.Target))
	dst = appendBytes(dst, 3, m.Key)
	if len(m.RangeEnd) > 0 {
		dst = appendVarint(dst, 64<<3|typeBytes)
		dst = append(appendVarint(dst, uint64(len(m.RangeEnd))), m.RangeEnd...)
	}
	switch m.Union {
	case UnionVersion, UnionCreate, UnionMod, UnionLease:
		return appendVarint(append(dst, byte(m.Union)<<3|typeVarint), uint64(m.Number))
	case UnionValue:
		return append(appendLen(dst, 7, len(m.Value)), m.Value...)
	}
	return dst
}

// leaf is a message that an operation holds.
type leaf[T any] interface {
	*T
	merge(b []byte) error
}

// alternative merges b into the oneof member at *p, which becomes present.
func alternative[T any, P leaf[T]](p *P, b []byte) error {
	if *p == nil {
		*p = new(T)
	}
	return (*p).merge(b)
}

// merge reads one more occurrence; deep is how many levels of messages may still nest, this one included.
func (m *RequestOp) merge(b []byte, deep int) error {
	if deep == 0 {
		return malformed("RequestOp", 0, badDepth)
	}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("RequestOp", i, end)
		}
		num := f.tag >> 3
		if f.tag&7 == typeBytes && 1 <= num && num <= 4 && deep == 1 {
			return malformed("RequestOp", i, badDepth)
		}
		i = end
		var err error
		switch f.tag {
		case 1<<3 | typeBytes:
			*m = RequestOp{Range: m.Range}
			err = alternative(&m.Range, f.data)
		case 2<<3 | typeBytes:
			*m = RequestOp{Put: m.Put}
			err = alternative(&m.Put, f.data)
		case 3<<3 | typeBytes:
			*m = RequestOp{DeleteRange: m.DeleteRange}
			err = alternative(&m.DeleteRange, f.data)
		case 4<<3 | typeBytes:
			*m = RequestOp{Txn: m.Txn}
			if m.Txn == nil {
				m.Txn = new(TxnRequest)
			}
			err = m.Txn.merge(f.data, deep-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *RequestOp) Unmarshal(b []byte) error {
	*m = RequestOp{}
	return m.merge(b, levels)
}

// Size is the length of what Append writes, in bytes.
func (m *RequestOp) Size() int {
	switch {
	case m.Range != nil:
		return sizeLen(m.Range.Size())
	case m.Put != nil:
		return sizeLen(m.Put.Size())
	case m.DeleteRange != nil:
		return sizeLen(m.DeleteRange.Size())
	case m.Txn != nil:
		return sizeLen(m.Txn.Size())
	}
	return 0
}

// Append appends the encoded message to dst.
func (m *RequestOp) Append(dst []byte) []byte {
	switch {
	case m.Range != nil:
		return m.Range.Append(appendLen(dst, 1, m.Range.Size()))
	case m.Put != nil:
		return m.Put.Append(appendLen(dst, 2, m.Put.Size()))
	case m.DeleteRange != nil:
		return m.DeleteRange.Append(appendLen(dst, 3, m.DeleteRange.Size()))
	case m.Txn != nil:
		return m.Txn.Append(appendLen(dst, 4, m.Txn.Size()))
	}
	return dst
}

func (m *TxnRequest) merge(b []byte, deep int) error {
	if deep == 0 {
		return malformed("TxnRequest", 0, badDepth)
	}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("TxnRequest", i, end)
		}
		var err error
		switch f.tag {
		case 1<<3 | typeBytes:
			if deep == 1 {
				return malformed("TxnRequest", i, badDepth)
			}
			m.Compare = append(m.Compare, Compare{})
			err = m.Compare[len(m.Compare)-1].merge(f.data)
		case 2<<3 | typeBytes:
			m.Success = append(m.Success, RequestOp{})
			err = m.Success[len(m.Success)-1].merge(f.data, deep-1)
		case 3<<3 | typeBytes:
			m.Failure = append(m.Failure, RequestOp{})
			err = m.Failure[len(m.Failure)-1].merge(f.data, deep-1)
		}
		if err != nil {
			return err
		}
		i = end
	}
	return nil
}

// Unmarshal replaces m by the message in b. Byte fields alias b; the lists' memory is used again, the operations in them
// are fresh.
func (m *TxnRequest) Unmarshal(b []byte) error {
	*m = TxnRequest{Compare: m.Compare[:0], Success: m.Success[:0], Failure: m.Failure[:0]}
	return m.merge(b, levels)
}

// Size is the length of what Append writes, in bytes.
func (m *TxnRequest) Size() int {
	n := 0
	for i := range m.Compare {
		n += sizeLen(m.Compare[i].Size())
	}
	for i := range m.Success {
		n += sizeLen(m.Success[i].Size())
	}
	for i := range m.Failure {
		n += sizeLen(m.Failure[i].Size())
	}
	return n
}

// Append appends the encoded message to dst.
func (m *TxnRequest) Append(dst []byte) []byte {
	for i := range m.Compare {
		c := &m.Compare[i]
		dst = c.Append(appendLen(dst, 1, c.Size()))
	}
	for i := range m.Success {
		op := &m.Success[i]
		dst = op.Append(appendLen(dst, 2, op.Size()))
	}
	for i := range m.Failure {
		op := &m.Failure[i]
		dst = op.Append(appendLen(dst, 3, op.Size()))
	}
	return dst
}

// CountElements counts the compares and operations of an encoded TxnRequest, nested ones included, up to max and one more,
// without decoding them: two bytes of input become a hundred in memory, so a receiver looks before it decodes. What is
// malformed ends the count.
func CountElements(b []byte, max int) int { return countElements(b, max, levels) }

func countElements(b []byte, max, deep int) int {
	n := 0
	for i := 0; i < len(b) && n <= max && deep > 0; {
		f, end := next(b, i)
		if end < 0 {
			break
		}
		i = end
		switch f.tag {
		case 1<<3 | typeBytes:
			n++
		case 2<<3 | typeBytes, 3<<3 | typeBytes:
			n++
			for j := 0; j < len(f.data) && n <= max; {
				op, end := next(f.data, j)
				if end < 0 {
					break
				}
				j = end
				if op.tag == 4<<3|typeBytes {
					n += countElements(op.data, max-n, deep-2)
				}
			}
		}
	}
	return n
}

// merge is RequestOp's, but what an alternative other than txn nests in turn is not counted: nobody hostile writes responses.
func (m *ResponseOp) merge(b []byte, deep int) error {
	if deep == 0 {
		return malformed("ResponseOp", 0, badDepth)
	}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("ResponseOp", i, end)
		}
		i = end
		var err error
		switch f.tag {
		case 1<<3 | typeBytes:
			*m = ResponseOp{Range: m.Range}
			err = alternative(&m.Range, f.data)
		case 2<<3 | typeBytes:
			*m = ResponseOp{Put: m.Put}
			err = alternative(&m.Put, f.data)
		case 3<<3 | typeBytes:
			*m = ResponseOp{DeleteRange: m.DeleteRange}
			err = alternative(&m.DeleteRange, f.data)
		case 4<<3 | typeBytes:
			*m = ResponseOp{Txn: m.Txn}
			if m.Txn == nil {
				m.Txn = new(TxnResponse)
			}
			err = m.Txn.merge(f.data, deep-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *ResponseOp) Unmarshal(b []byte) error {
	*m = ResponseOp{}
	return m.merge(b, levels)
}

// A nested response always has a header on the wire, mostly an empty one: clients look into it.

func nestedSize(m *TxnResponse) int {
	n := m.Size()
	if m.Header == (Header{}) {
		n += sizeLen(0)
	}
	return n
}

func appendNested(dst []byte, m *TxnResponse) []byte {
	if m.Header == (Header{}) {
		dst = appendLen(dst, 1, 0)
	}
	return m.Append(dst)
}

// Size is the length of what Append writes, in bytes.
func (m *ResponseOp) Size() int {
	switch {
	case m.Range != nil:
		return sizeLen(m.Range.Size())
	case m.Put != nil:
		return sizeLen(m.Put.Size())
	case m.DeleteRange != nil:
		return sizeLen(m.DeleteRange.Size())
	case m.Txn != nil:
		return sizeLen(nestedSize(m.Txn))
	}
	return 0
}

// Append appends the encoded message to dst.
func (m *ResponseOp) Append(dst []byte) []byte {
	switch {
	case m.Range != nil:
		return m.Range.Append(appendLen(dst, 1, m.Range.Size()))
	case m.Put != nil:
		return m.Put.Append(appendLen(dst, 2, m.Put.Size()))
	case m.DeleteRange != nil:
		return m.DeleteRange.Append(appendLen(dst, 3, m.DeleteRange.Size()))
	case m.Txn != nil:
		return appendNested(appendLen(dst, 4, nestedSize(m.Txn)), m.Txn)
	}
	return dst
}

func (m *TxnResponse) merge(b []byte, deep int) error {
	if deep == 0 {
		return malformed("TxnResponse", 0, badDepth)
	}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("TxnResponse", i, end)
		}
		i = end
		var err error
		switch f.tag {
		case 1<<3 | typeBytes:
			err = m.Header.merge(f.data)
		case 2<<3 | typeVarint:
			m.Succeeded = f.v != 0
		case 3<<3 | typeBytes:
			m.Responses = append(m.Responses, ResponseOp{})
			err = m.Responses[len(m.Responses)-1].merge(f.data, deep-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b. Byte fields alias b; the list's memory is used again.
func (m *TxnResponse) Unmarshal(b []byte) error {
	*m = TxnResponse{Responses: m.Responses[:0]}
	return m.merge(b, levels)
}

// Size is the length of what Append writes, in bytes.
func (m *TxnResponse) Size() int {
	n := sizeHeader(&m.Header) + sizeBool(m.Succeeded)
	for i := range m.Responses {
		n += sizeLen(m.Responses[i].Size())
	}
	return n
}

// Append appends the encoded message to dst.
func (m *TxnResponse) Append(dst []byte) []byte {
	dst = appendHeader(dst, &m.Header)
	dst = appendBool(dst, 2, m.Succeeded)
	for i := range m.Responses {
		op := &m.Responses[i]
		dst = op.Append(appendLen(dst, 3, op.Size()))
	}
	return dst
}
