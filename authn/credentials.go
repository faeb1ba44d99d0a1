package authn

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// digest stands for a secret without giving it away.
type digest [sha256.Size]byte

// credentials remembers which name, hash and password were found to belong together. It keeps their keyed digest only, with
// a key that is never outside this process, so that its memory is of no use to find a password faster than from the hash.
type credentials struct {
	secret [32]byte
	max    int

	mu    sync.Mutex
	order *list.List // of credential, the least recently used last
	held  map[digest]*list.Element
}

type credential struct {
	key  digest
	user string
}

func newCredentials(entries int) *credentials {
	c := &credentials{max: entries, order: list.New(), held: map[digest]*list.Element{}}
	_, _ = rand.Read(c.secret[:]) // never fails, it ends the process instead
	return c
}

// key covers the hash, so that an entry is void as soon as the user has another password. Lengths come before what they
// measure: no two triples make the same bytes.
func (c *credentials) key(user string, hash []byte, password string) digest {
	mac := hmac.New(sha256.New, c.secret[:])
	var n [16]byte
	binary.BigEndian.PutUint64(n[:8], uint64(len(user)))
	binary.BigEndian.PutUint64(n[8:], uint64(len(hash)))
	mac.Write(n[:])
	mac.Write([]byte(user))
	mac.Write(hash)
	mac.Write([]byte(password))
	var d digest
	mac.Sum(d[:0])
	return d
}

func (c *credentials) has(key digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.held[key]
	if ok {
		c.order.MoveToFront(e)
	}
	return ok
}

func (c *credentials) put(key digest, user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.held[key]; ok {
		return
	}
	c.held[key] = c.order.PushFront(credential{key, user})
	for len(c.held) > c.max {
		c.remove(c.order.Back())
	}
}

// drop forgets a user, or all of them for "".
func (c *credentials) drop(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.order.Front(); e != nil; {
		next := e.Next()
		if user == "" || e.Value.(credential).user == user {
			c.remove(e)
		}
		e = next
	}
}

func (c *credentials) remove(e *list.Element) {
	delete(c.held, e.Value.(credential).key)
	c.order.Remove(e)
}
