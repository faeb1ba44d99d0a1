package v2http

import (
	"encoding/json"
	"net/http"
)

// watch waits for one event, or with stream sends each as it happens until the client leaves. The headers go out at once.
func (h *handler) watch(w http.ResponseWriter, r *http.Request, q *keyRequest, key string, who asker) error {
	permitted := func() error {
		if !who.v3 && !h.underV3() {
			return nil // decided when it began, as in etcd
		}
		_, may := h.cfg.Backend.Store.View()
		return may(who.identity, key, q.Recursive)
	}
	if err := permitted(); err != nil {
		return err
	}
	wa, err := h.cfg.Backend.Watches.Watch(q.Path, q.Recursive, q.stream, q.since)
	if err != nil {
		return err
	}
	defer wa.Close()
	h.raftHeaders(w, wa.StartIndex())
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	if flush.Flush() != nil {
		return nil // the client went away
	}
	for {
		select {
		case <-r.Context().Done():
			return nil
		case ev, ok := <-wa.Events():
			// Permissions may have changed since.
			if !ok || permitted() != nil || json.NewEncoder(w).Encode(trimmed(ev)) != nil || !q.stream || flush.Flush() != nil {
				return nil
			}
		}
	}
}
