package peer

import (
	"errors"
	"fmt"
	"net/http"
)

// Headers of every request and answer between members (source: contract 5.4).
const (
	headerFrom       = "X-Server-From"
	headerVersion    = "X-Server-Version"
	headerMinVersion = "X-Min-Cluster-Version"
	headerCluster    = "X-Etcd-Cluster-Id"
	headerURLs       = "X-Peerurls"
	headerTo         = "X-Raft-To"
)

// Texts by which members refuse each other; they are parsed by the other side.
var (
	errVersion = errors.New("incompatible version")
	errCluster = errors.New("cluster ID mismatch")
)

// version is major and minor: patches do not matter to peers.
type version struct{ major, minor int }

func parseVersion(s string) (v version, err error) {
	var patch int
	if n, _ := fmt.Sscanf(s, "%d.%d.%d", &v.major, &v.minor, &patch); n < 3 {
		return version{}, fmt.Errorf("version %q is not three numbers", s)
	}
	return v, nil
}

func (v version) less(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

// versionOf reads a version header. Members before 2.1 sent none.
func versionOf(h http.Header, name string) version {
	v, err := parseVersion(h.Get(name))
	if err != nil {
		return version{2, 0}
	}
	return v
}

// check says whether a member with these headers may talk to this one.
func (c *Config) check(h http.Header) error {
	own, _ := parseVersion(c.Version)
	least, _ := parseVersion(c.MinVersion)
	switch {
	case versionOf(h, headerVersion).less(least), own.less(versionOf(h, headerMinVersion)):
		return errVersion
	case h.Get(headerCluster) != c.Cluster.String():
		return errCluster
	}
	return nil
}
