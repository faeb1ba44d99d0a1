package k8s

import (
	"bytes"
	"compress/gzip"
	_ "embed" // the objects
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

//go:embed objects.gz
var packed []byte

// The stages of a pod's life, each stored once, as gen has them.
const (
	stageCreated = iota
	stageBound
	stageInitialized
	stageStarted
	stageReady
	stageTerminating
	stages
)

var stageNames = [stages]string{"created", "bound", "initialized", "started", "ready", "terminating"}

// The marks that gen leaves in the objects.
const (
	markPod   = "MARKPODNAME-7d4b9c6f5d-0000000000"
	markSpace = "MARKNS-00000"
	markNode  = "MARKNODE-00000000"
	markUID   = "MARKUID0-0000-4000-8000-000000000000"
	markStamp = "MARKSTAMP0000000"
	markNoise = "MARKNOISE"
	noiseLen  = 1024
)

// object is an encoded object with places that differ.
type object struct {
	value                             []byte
	pods, spaces, nodes, uids, stamps []int
	noise                             int // -1: none
}

// objectSet is everything that is sent.
type objectSet struct {
	pods               [2][stages]*object // large and small
	node, lease, event *object
	noise              []byte
	stampAt            map[int]int // of a value of such a length, where its first stamp is
}

// loadObjects unpacks the objects, once.
var loadObjects = sync.OnceValues(func() (*objectSet, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	values := map[string][]byte{}
	if err := json.NewDecoder(z).Decode(&values); err != nil {
		return nil, err
	}
	s := &objectSet{stampAt: map[int]int{}, noise: makeNoise()}
	take := func(name string) *object {
		o := newObject(values[name])
		if len(o.stamps) == 0 || s.stampAt[len(o.value)] != 0 {
			err = fmt.Errorf("object %s of %d bytes has no stamp, or the length of another", name, len(o.value))
			return o
		}
		s.stampAt[len(o.value)] = o.stamps[0]
		return o
	}
	for i, size := range []string{"large", "small"} {
		for stage := range stages {
			s.pods[i][stage] = take("pod/" + size + "/" + stageNames[stage])
		}
	}
	s.node, s.lease, s.event = take("node"), take("lease"), take("event")
	return s, err
})

// makeNoise is hexadecimal text at random, always the same.
func makeNoise() []byte {
	const digits = "0123456789abcdef"
	rnd := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 1<<18)
	for i := range b {
		b[i] = digits[rnd.IntN(16)]
	}
	return b
}

func newObject(value []byte) *object {
	return &object{value: value, pods: places(value, markPod), spaces: places(value, markSpace), nodes: places(value, markNode),
		uids: places(value, markUID), stamps: places(value, markStamp), noise: bytes.Index(value, []byte(markNoise))}
}

func places(value []byte, mark string) (at []int) {
	for from := 0; ; {
		i := bytes.Index(value[from:], []byte(mark))
		if i < 0 {
			return at
		}
		at = append(at, from+i)
		from += i + len(mark)
	}
}

// identity is what tells objects of a kind apart.
type identity struct {
	pod, node int64
	space     int64
	at        time.Duration // the stamp: when the write was due, since the begin of the program's run
}

// appendTo appends the object with id's values in the marked places.
func (o *object) appendTo(dst []byte, id identity, noise []byte) []byte {
	base := len(dst)
	dst = append(dst, o.value...)
	b := dst[base:]
	for _, i := range o.pods {
		putPod(b[i:], id.pod)
	}
	for _, i := range o.spaces {
		putSpace(b[i:], id.space)
	}
	for _, i := range o.nodes {
		putNode(b[i:], id.node)
	}
	for _, i := range o.uids {
		putHex(b[i:i+8], uint64(id.pod+id.node<<20)&0xffffffff)
		putHex(b[i+24:i+36], uint64(id.pod<<8^id.node))
	}
	for _, i := range o.stamps {
		putHex(b[i:i+len(markStamp)], uint64(id.at))
	}
	if o.noise >= 0 {
		from := int(uint64(id.pod*7919+id.node*104729) % uint64(len(noise)-noiseLen))
		copy(b[o.noise:o.noise+noiseLen], noise[from:])
	}
	return dst
}

const hexDigits = "0123456789abcdef"

func putHex(b []byte, v uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = hexDigits[v&15]
		v >>= 4
	}
}

func putDecimal(b []byte, v int64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
}

const (
	podNames   = "shop-web-00-7d4b9c6f5d-"
	spaceNames = "density-"
	nodeNames  = "instance-"
)

func putPod(b []byte, n int64) {
	copy(b, podNames)
	putDecimal(b[len(podNames):len(markPod)], n)
}

func putSpace(b []byte, n int64) {
	copy(b, spaceNames)
	putDecimal(b[len(spaceNames):len(markSpace)], n)
}

func putNode(b []byte, n int64) {
	copy(b, nodeNames)
	putDecimal(b[len(nodeNames):len(markNode)], n)
}

// stampOf is when the write of a value was due.
func (s *objectSet) stampOf(value []byte) (time.Duration, bool) {
	i := s.stampAt[len(value)]
	if i == 0 || i+len(markStamp) > len(value) {
		return 0, false
	}
	v, err := strconv.ParseUint(string(value[i:i+len(markStamp)]), 16, 63)
	return time.Duration(v), err == nil
}
