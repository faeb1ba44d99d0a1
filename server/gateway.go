package server

import (
	"context"

	"quorate.dev/quorate/gateway"
	"quorate.dev/quorate/grpcapi"
	"quorate.dev/quorate/limits"
)

// makeGateway makes the JSON gateway, if there is to be one. It calls this member's own gRPC server, which serves it with the
// addresses of clients.
func (s *Server) makeGateway() (err error) {
	if !s.cfg.HTTP.Gateway {
		return nil
	}
	s.gateway, err = gateway.New(gateway.Config{Files: grpcapi.Files(), BodyBytes: limits.GatewayBodyFactor * int64(s.messageBytes())})
	if err == nil {
		s.onStop("JSON gateway", func(context.Context) error { s.gateway.Close(); return nil })
	}
	return err
}
