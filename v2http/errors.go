package v2http

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/v2store"
)

// refusal is an error of a request that has not reached the tree: its index is 0.
func refusal(code int, cause string) *v2store.Error { return v2store.NewError(code, cause, 0) }

// insufficient is the cause, and the message, of what is not allowed.
const insufficient = "Insufficient credentials"

// unauthorized says that nobody, or somebody who may not, asked.
func unauthorized(err error) bool {
	for _, e := range []error{
		fault.PermissionDenied, fault.UserEmpty, fault.UserNotFound, fault.AuthFailed, fault.NoPasswordUser, fault.InvalidAuthToken, fault.AuthOldRevision,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// keyError is err as the keys API tells it.
func keyError(err error) *v2store.Error {
	var refused *v2store.Error
	switch {
	case errors.As(err, &refused):
		own := *refused // it may be shared
		own.Cause = strings.TrimPrefix(own.Cause, keySpace)
		return &own
	case unauthorized(err):
		return refusal(v2store.CodeUnauthorized, insufficient)
	case errors.Is(err, fault.RequestTooLarge): // another try would do no better
		return refusal(v2store.CodeInvalidForm, err.Error())
	default:
		_, text := fault.Of(err)
		return refusal(v2store.CodeRaftInternal, text)
	}
}

// failKey answers a request of the keys API with err.
func (h *handler) failKey(w http.ResponseWriter, err error) {
	e := keyError(err)
	if e.Code == v2store.CodeRaftInternal {
		h.cfg.Logger.Warn("a v2 request failed", zap.Error(err))
	}
	writeRefusal(w, e)
}

// writeRefusal is how an error of the tree looks.
func writeRefusal(w http.ResponseWriter, e *v2store.Error) {
	body := marshal(e)
	w.Header().Add(headerIndex, strconv.FormatUint(e.Index, 10))
	w.Header().Set(contentType, typeJSON)
	w.WriteHeader(e.Status())
	_, _ = w.Write(append(body, '\n'))
}

// message is an error of the other endpoints.
type message struct {
	status int
	text   string
}

// Error implements error.
func (m *message) Error() string { return m.text }

// say is a message made of a format.
func say(status int, format string, args ...any) *message {
	return &message{status, fmt.Sprintf(format, args...)}
}

// fail answers a request of another endpoint with err. What is neither a message nor of the tree is not told in detail.
func (h *handler) fail(w http.ResponseWriter, err error) {
	var refused *v2store.Error
	var said *message
	switch {
	case errors.As(err, &refused):
		writeRefusal(w, refused)
		return
	case errors.As(err, &said):
	case unauthorized(err):
		said = say(http.StatusUnauthorized, insufficient)
	default:
		h.cfg.Logger.Warn("a v2 request failed", zap.Error(err))
		said = say(http.StatusInternalServerError, "Internal Server Error")
	}
	body := marshal(struct {
		Message string `json:"message"`
	}{said.text})
	w.Header().Set(contentType, typeJSON)
	w.WriteHeader(said.status)
	_, _ = w.Write(body)
}

// marshal encodes answers, which always can be.
func marshal(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("BUG: answer does not marshal: %v", err))
	}
	return body
}
