package server

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/watch"
)

// identities knows who clients are: their passwords and tokens, as far as this member has applied the log. It holds the View that
// clients' requests are decided by, which appears only when the tokens and the watches are what it says: whoever sees a View
// in which a password has changed finds no token of before, and an event that happened under new permissions comes after
// the watches that may not show it have ended.
type identities struct {
	keeper   authn.Keeper
	verifier *authn.Verifier
	view     atomic.Pointer[state.View]
}

// openIdentities makes what knows clients. The state must be open.
func (s *Server) openIdentities() error {
	p := new(identities)
	p.view.Store(s.core.machine.View())
	token, err := s.cfg.Auth.ParseToken()
	if err != nil {
		return err
	}
	logger := s.logger.Named("auth")
	cost := int(s.cfg.Auth.BcryptCost)
	if cost < authn.CostMin || cost > authn.CostMax {
		logger.Warn("use default bcrypt cost instead of the invalid given cost", zap.Int("min-cost", authn.CostMin), zap.Int("max-cost", authn.CostMax),
			zap.Int("default-cost", authn.CostDefault), zap.Int("given-cost", cost))
		cost = authn.CostDefault
	}
	if token.Kind == config.TokenSimple {
		logger.Warn("simple token is not cryptographically signed")
	}
	p.keeper.Tokens, err = authn.OpenTokens(authn.TokenConfig{
		Kind: token.Kind, TTL: time.Duration(s.cfg.Auth.TokenTTLSeconds) * time.Second, Clock: clock.Real(),
		JWT:     authn.JWTConfig{PublicKey: token.PublicKey, PrivateKey: token.PrivateKey, Method: token.Method, TTL: token.TTL},
		Applied: func() ids.Index { return p.view.Load().Applied },
		Warn:    func(msg string, err error) { logger.Warn(msg, zap.Error(err)) },
	})
	if err != nil {
		return err
	}
	s.onStop("tokens", func(context.Context) error { authn.CloseTokens(p.keeper.Tokens); return nil })
	if p.verifier, err = authn.NewVerifier(cost, 0); err != nil {
		return err
	}
	s.onStop("passwords", func(context.Context) error { p.verifier.Close(); return nil })
	s.core.clients = p
	return nil
}

// apply brings tokens and watches to a new View and then shows it. It belongs to the goroutine that applies the log.
func (p *identities) apply(view *state.View, changes []state.AuthChange, hub *watch.Hub) {
	for _, c := range changes {
		switch c.Kind {
		case state.TokenAssigned:
			p.keeper.Tokens.Assign(c.User, c.Token, c.Index)
		case state.UserDropped:
			p.keeper.Tokens.Invalidate(c.User)
			p.verifier.Drop(c.User)
		case state.AuthDisabled:
			p.keeper.Tokens.Invalidate("")
			p.verifier.Drop("")
		}
	}
	if old := p.view.Swap(view); old.Auth != view.Auth {
		hub.Recheck()
	}
}
