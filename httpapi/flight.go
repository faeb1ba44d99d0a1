package httpapi

import (
	"bytes"
	"net/http"
	"runtime/trace"
	"sync"
	"time"
)

// The window of the flight recorder: at least flightAge, unless that takes more than about flightBytes of memory.
const (
	flightAge   = 10 * time.Second
	flightBytes = 16 << 20
)

// flight is the recorder of this process: the runtime allows one, whatever the number of members. It starts with the first
// member that serves profiles and never stops.
var flight = sync.OnceValues(func() (*trace.FlightRecorder, error) {
	r := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: flightAge, MaxBytes: flightBytes})
	return r, r.Start()
})

// routeFlight serves what the process did in the last seconds, as a trace for "go tool trace": unlike /debug/pprof/trace,
// which records from now on, it shows what led to the moment.
func routeFlight(mux *http.ServeMux) {
	_, _ = flight() // an error is told to who asks
	mux.HandleFunc("GET /debug/flight", serveFlight)
}

func serveFlight(w http.ResponseWriter, _ *http.Request) {
	r, err := flight()
	var window bytes.Buffer
	if err == nil {
		_, err = r.WriteTo(&window) // fails when another request is at it
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="flight.trace"`)
	_, _ = w.Write(window.Bytes()) // the client went away: nobody to tell
}
