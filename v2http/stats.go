package v2http

import (
	"net/http"
	"time"
)

func (h *handler) serveStats(w http.ResponseWriter, r *http.Request, name string) {
	var show func() (any, error)
	switch name {
	case "self":
		show = h.self
	case "leader":
		show = h.leader
	case "store":
		show = h.store
	default:
		http.NotFound(w, r)
		return
	}
	if !allow(w, r, http.MethodGet) {
		return
	}
	v, err := show()
	if err != nil {
		h.fail(w, err)
		return
	}
	w.Header().Set(contentType, typeJSON)
	_, _ = w.Write(marshal(v))
}

// shownSelf is /v2/stats/self.
type shownSelf struct {
	Name           string      `json:"name"`
	ID             string      `json:"id"`
	State          string      `json:"state"`
	Start          time.Time   `json:"startTime"`
	Leader         shownLeader `json:"leaderInfo"`
	Received       uint64      `json:"recvAppendRequestCnt"`
	ReceivedRate   float64     `json:"recvPkgRate,omitempty"`
	ReceivedVolume float64     `json:"recvBandwidthRate,omitempty"`
	Sent           uint64      `json:"sendAppendRequestCnt"`
	SentRate       float64     `json:"sendPkgRate,omitempty"`
	SentVolume     float64     `json:"sendBandwidthRate,omitempty"`
}

type shownLeader struct {
	ID     string    `json:"leader"`
	Uptime string    `json:"uptime"`
	Start  time.Time `json:"startTime"`
}

func (h *handler) self() (any, error) {
	s := h.cfg.Backend.Cluster.Self()
	out := shownSelf{
		Name: s.Name, ID: s.ID.String(), State: s.State, Start: s.Start,
		Leader:   shownLeader{Uptime: h.cfg.Clock.Now().Sub(s.LeaderSince).String(), Start: s.LeaderSince},
		Received: s.Received, ReceivedRate: s.ReceivedPerSecond, ReceivedVolume: s.ReceivedBytes,
		Sent: s.Sent, SentRate: s.SentPerSecond, SentVolume: s.SentBytes,
	}
	if s.Leader != 0 {
		out.Leader.ID = s.Leader.String()
	}
	return out, nil
}

// shownFollower is how messages to another member went.
type shownFollower struct {
	Latency struct {
		Current   float64 `json:"current"`
		Average   float64 `json:"average"`
		Deviation float64 `json:"standardDeviation"`
		Minimum   float64 `json:"minimum"`
		Maximum   float64 `json:"maximum"`
	} `json:"latency"`
	Counts struct {
		Fail    uint64 `json:"fail"`
		Success uint64 `json:"success"`
	} `json:"counts"`
}

func (h *handler) leader() (any, error) {
	cluster := h.cfg.Backend.Cluster
	followers, ok := cluster.Followers()
	if !ok {
		return nil, say(http.StatusForbidden, "not current leader")
	}
	out := struct {
		Leader    string                   `json:"leader"`
		Followers map[string]shownFollower `json:"followers"`
	}{cluster.Leader().String(), map[string]shownFollower{}}
	for id, f := range followers {
		var s shownFollower
		l, c := &s.Latency, &s.Counts
		l.Current, l.Average, l.Deviation, l.Minimum, l.Maximum = f.Current, f.Average, f.Deviation, f.Minimum, f.Maximum
		c.Fail, c.Success = f.Failed, f.Succeeded
		out.Followers[id.String()] = s
	}
	return out, nil
}

// shownStore is /v2/stats/store.
type shownStore struct {
	shownCounts
	Watchers uint64 `json:"watchers"`
}

// shownCounts has its fields in the order in which they are told.
type shownCounts struct {
	GetsSuccess             uint64 `json:"getsSuccess"`
	GetsFail                uint64 `json:"getsFail"`
	SetsSuccess             uint64 `json:"setsSuccess"`
	SetsFail                uint64 `json:"setsFail"`
	DeleteSuccess           uint64 `json:"deleteSuccess"`
	DeleteFail              uint64 `json:"deleteFail"`
	UpdateSuccess           uint64 `json:"updateSuccess"`
	UpdateFail              uint64 `json:"updateFail"`
	CreateSuccess           uint64 `json:"createSuccess"`
	CreateFail              uint64 `json:"createFail"`
	CompareAndSwapSuccess   uint64 `json:"compareAndSwapSuccess"`
	CompareAndSwapFail      uint64 `json:"compareAndSwapFail"`
	CompareAndDeleteSuccess uint64 `json:"compareAndDeleteSuccess"`
	CompareAndDeleteFail    uint64 `json:"compareAndDeleteFail"`
	ExpireCount             uint64 `json:"expireCount"`
}

func (h *handler) store() (any, error) {
	tree, _ := h.cfg.Backend.Store.View()
	c := tree.Stats().Counts
	return shownStore{shownCounts{
		c.GetsSuccess + h.reads.Load(), c.GetsFail + h.misses.Load(), c.SetsSuccess, c.SetsFail, c.DeleteSuccess, c.DeleteFail,
		c.UpdateSuccess, c.UpdateFail, c.CreateSuccess, c.CreateFail, c.CompareAndSwapSuccess, c.CompareAndSwapFail,
		c.CompareAndDeleteSuccess, c.CompareAndDeleteFail, c.ExpireCount,
	}, uint64(h.cfg.Backend.Watches.Count())}, nil
}
