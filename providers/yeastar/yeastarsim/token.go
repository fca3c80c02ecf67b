package yeastarsim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

const (
	grantLogin   = "pp_credentials"
	grantRefresh = "refresh_token"
)

// signingKey signs tokens as a real token server would. Nobody verifies them:
// a token is valid because the server remembers it.
const signingKey = "yeastarsim"

// tokens remembers what was issued, each token with the instant it ends.
type tokens struct {
	access  map[string]time.Time
	refresh map[string]time.Time
	last    pair
	issued  int
}

type pair struct {
	access, refresh string
}

func newTokens() tokens {
	return tokens{access: map[string]time.Time{}, refresh: map[string]time.Time{}}
}

func (t *tokens) valid(access string, now time.Time) bool {
	return now.Before(t.access[access])
}

func (t *tokens) expireAccess()  { clear(t.access) }
func (t *tokens) expireRefresh() { clear(t.refresh) }

// prune forgets what has ended, so that a long demo does not grow.
func (t *tokens) prune(now time.Time) {
	ended := func(_ string, end time.Time) bool { return !now.Before(end) }
	maps.DeleteFunc(t.access, ended)
	maps.DeleteFunc(t.refresh, ended)
}

// token answers POST /auth/openapi/v1/oauth/token.
func (s *Server) token(form url.Values, now time.Time) simulate.Answer {
	switch grant := form.Get("grant_type"); grant {
	case "":
		return s.missing("grant_type")
	case grantLogin:
		return s.login(form.Get("client_id"), form.Get("client_secret"), now)
	case grantRefresh:
		return s.renew(form.Get("refresh_token"), now)
	default:
		return s.failed(http.StatusBadRequest, "unsupported_grant_type", "Unsupported grant type: "+grant)
	}
}

func (s *Server) login(id, secret string, now time.Time) simulate.Answer {
	if id == "" {
		return s.missing("client_id")
	}
	if secret == "" {
		return s.missing("client_secret")
	}
	if !accepts(s.options.ClientID, id) || !accepts(s.options.ClientSecret, secret) {
		return s.failed(http.StatusUnauthorized, "invalid_client", "Client authentication failed")
	}
	if s.options.ReuseToken && s.tokens.valid(s.tokens.last.access, now) {
		return s.granted(s.tokens.last, now)
	}
	return s.granted(s.issue(id, "", now), now)
}

func (s *Server) renew(refresh string, now time.Time) simulate.Answer {
	if refresh == "" {
		return s.missing("refresh_token")
	}
	if s.options.RefuseRefresh || !now.Before(s.tokens.refresh[refresh]) {
		return s.failed(http.StatusUnauthorized, "invalid_refresh_token", "Refresh token expired")
	}
	if s.options.KeepRefreshToken {
		return s.granted(s.issue(s.options.ClientID, refresh, now), now)
	}
	delete(s.tokens.refresh, refresh)
	return s.granted(s.issue(s.options.ClientID, "", now), now)
}

// issue makes a new access token, and a new refresh token where none is given.
func (s *Server) issue(client, refresh string, now time.Time) pair {
	t := &s.tokens
	t.prune(now)
	if s.options.SingleToken {
		t.expireAccess()
	}
	end := now.Add(orDefault(s.options.AccessLife, DefaultAccessLife))
	access := t.sign(client, end)
	t.access[access] = end
	if refresh == "" {
		end = now.Add(orDefault(s.options.RefreshLife, DefaultRefreshLife))
		refresh = t.sign(client, end)
		t.refresh[refresh] = end
	}
	t.last = pair{access: access, refresh: refresh}
	return t.last
}

// sign returns a JWT with the claims of the documented sample, which has no
// iat. The claim jti is added so that two tokens of one second differ.
func (t *tokens) sign(client string, end time.Time) string {
	t.issued++
	header := encode([]byte(`{"alg":"HS256","typ":"JWT"}`))
	claims := encode(fmt.Appendf(nil, `{"scope":["all"],"exp":%d,"token_type":"openapi","jti":"%d","client_id":%s}`,
		end.Unix(), t.issued, simulate.Quote(client)))
	mac := hmac.New(sha256.New, []byte(signingKey))
	mac.Write([]byte(header + "." + claims))
	return header + "." + claims + "." + encode(mac.Sum(nil))
}

func (s *Server) granted(p pair, now time.Time) simulate.Answer {
	seconds := strconv.FormatInt(int64(s.tokens.access[p.access].Sub(now)/time.Second), 10)
	var expires string
	switch s.options.ExpiresIn {
	case ExpiresInNumber:
		expires = seconds
	case ExpiresInUnreadable:
		expires = `"soon"`
	case ExpiresInSmall:
		expires = `"1"`
	default:
		expires = simulate.Quote(seconds)
	}
	head := [...]string{TokenHeadSpace: "Bearer ", TokenHeadBare: "Bearer", TokenHeadEmpty: ""}[s.options.TokenHead]
	return s.success(fmt.Sprintf(`{"expiresIn":%s,"refreshToken":%s,"token":%s,"tokenHead":%s}`,
		expires, simulate.Quote(p.refresh), simulate.Quote(p.access), simulate.Quote(head)))
}

func accepts(want, got string) bool {
	return want == "" || want == got
}

func encode(b []byte) string {
	return base64.RawURLEncoding.EncodeToString(b)
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
