package storage

// Keys walks over the keys of a range, without their values, on a goroutine of its own that is a little ahead of the caller: a
// start reads many keys and does much with each. In a pinned engine the caller's goroutine reads. It is for one goroutine. It
// must be closed.
type Keys struct {
	own    *Iter         // read by the caller itself, without what follows; nil where a goroutine reads ahead
	blocks chan keyBlock // read and not yet taken
	spare  chan keyBlock // to be used again
	stop   chan struct{}
	err    error // set before blocks is closed
	block  keyBlock
	at     int // keys of block that were passed; with own, 1 after the first key was looked for
}

// keyBlock is keys one after the other.
type keyBlock struct {
	bytes []byte
	ends  []int
}

// Bounds of what is read ahead: so many blocks of so many keys.
const (
	aheadBlocks = 4
	aheadKeys   = 512
)

func keysOf(it *Iter) *Keys {
	k := &Keys{blocks: make(chan keyBlock, aheadBlocks), spare: make(chan keyBlock, aheadBlocks), stop: make(chan struct{})}
	for range aheadBlocks {
		k.spare <- keyBlock{}
	}
	go k.read(it)
	return k
}

func (k *Keys) read(it *Iter) {
	defer close(k.blocks)
	for ok := it.First(); ok; {
		var b keyBlock
		select {
		case b = <-k.spare:
		case <-k.stop:
			ok = false
			continue
		}
		b.bytes, b.ends = b.bytes[:0], b.ends[:0]
		for ; ok && len(b.ends) < aheadKeys; ok = it.Next() {
			b.bytes = append(b.bytes, it.Key()...)
			b.ends = append(b.ends, len(b.bytes))
		}
		k.blocks <- b // there is room: no more blocks exist
	}
	k.err = it.Close()
}

// Next moves to the next key, at first to the first one, and says whether there is one. At the end of the range and after a
// failure there is none; Close tells which it was.
func (k *Keys) Next() bool {
	if k.own != nil {
		return k.step()
	}
	if k.at++; k.at <= len(k.block.ends) {
		return true
	}
	if k.block.ends != nil {
		k.spare <- k.block
	}
	k.block, k.at = <-k.blocks, 1
	return len(k.block.ends) > 0
}

// step is Next of the own iterator.
func (k *Keys) step() bool {
	if k.at == 0 {
		k.at = 1
		return k.own.First()
	}
	return k.own.Valid() && k.own.Next()
}

// Key returns the current key. It is valid until Next.
func (k *Keys) Key() []byte {
	if k.own != nil {
		return k.own.Key()
	}
	from := 0
	if k.at > 1 {
		from = k.block.ends[k.at-2]
	}
	return k.block.bytes[from:k.block.ends[k.at-1]]
}

// Close ends the walk and returns its failure, nil if there was none. It must be called once.
func (k *Keys) Close() error {
	if k.own != nil {
		return k.own.Close()
	}
	close(k.stop)
	for range k.blocks {
	}
	return k.err
}
