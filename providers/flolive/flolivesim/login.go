package flolivesim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// signingKey signs tokens as a real token server would. Nobody verifies them:
// a token is valid because the server remembers it.
const signingKey = "flolivesim"

// login answers POST /api/v2/auth/token.
func (s *Server) login(contentType string, body []byte, now time.Time) simulate.Answer {
	if kind, _, err := mime.ParseMediaType(contentType); err != nil || kind != "application/json" {
		return s.failed(CodeInvalid)
	}
	var request struct{ Username, Password string }
	if err := json.Unmarshal(body, &request); err != nil || request.Username == "" || request.Password == "" {
		return s.failed(CodeInvalid)
	}
	if !accepts(s.options.Username, request.Username) || !accepts(s.options.Password, request.Password) {
		return s.unauthorized("Wrong username or password")
	}
	maps.DeleteFunc(s.tokens, func(_ string, end time.Time) bool { return !now.Before(end) })

	life := s.options.TokenLife
	if life == 0 {
		life = DefaultTokenLife
	}
	end := now.Add(life)
	token := s.newToken(request.Username, end)
	s.tokens[token] = end

	field := s.options.TokenField
	if field == "" {
		field = "token"
	}
	return s.success([]string{"{" + simulate.Quote(field) + ":" + simulate.Quote(token) + "}"}, `""`)
}

// newToken returns a token unlike all others.
func (s *Server) newToken(user string, end time.Time) string {
	s.issued++
	claims := fmt.Appendf(nil, `{"sub":%s,"exp":%d,"jti":"%d"}`, simulate.Quote(user), end.Unix(), s.issued)
	mac := hmac.New(sha256.New, []byte(signingKey))
	if s.options.OpaqueToken {
		mac.Write(claims)
		return encode(mac.Sum(nil))
	}
	token := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(claims)
	mac.Write([]byte(token))
	return token + "." + encode(mac.Sum(nil))
}

func (s *Server) authorized(header http.Header, now time.Time) bool {
	name, prefix := s.options.AuthHeader, s.options.AuthPrefix
	if name == "" {
		name, prefix = "Authorization", "Bearer "
	}
	token, ok := strings.CutPrefix(header.Get(name), prefix)
	if !ok || token == "" {
		return false
	}
	return token == s.options.StaticToken || now.Before(s.tokens[token])
}

func (s *Server) unauthorized(message string) simulate.Answer {
	a := simulate.Answer{Body: failure(CodeUnauthorized, message)}
	switch s.options.AuthFailure {
	case AuthForbidden:
		a.Status = http.StatusForbidden
	case AuthErrorCode:
		a.Status = http.StatusOK
	default:
		a.Status = http.StatusUnauthorized
	}
	return a
}

func accepts(want, got string) bool {
	return want == "" || want == got
}

func encode(b []byte) string {
	return base64.RawURLEncoding.EncodeToString(b)
}
