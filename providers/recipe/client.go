package recipe

import (
	"context"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// client sends the requests of an account and reads their answers.
type client struct {
	*account
	http   providers.HTTP
	tokens *kit.TokenSource // nil without a token step
}

func newClient(a *account, env providers.Env) *client {
	c := &client{account: a, http: env.HTTP}
	if a.Token == nil {
		return c
	}
	var secrets []*secret.Value
	for _, name := range a.Secrets {
		secrets = append(secrets, a.secrets[name])
	}
	c.tokens = kit.NewTokenSource(kit.TokenOptions{
		HTTP: env.HTTP, Secrets: secrets, Login: c.login, DefaultLife: defaultTokenLife,
	})
	return c
}

// values returns what placeholders stand for, with the secrets as they are now.
func (c *client) values(more values) (values, error) {
	all := maps.Clone(c.settings)
	maps.Copy(all, more)
	for _, name := range c.Secrets {
		text, err := c.secrets[name].Get()
		if err != nil {
			return nil, providers.Errorf(providers.ReasonAuth, "%s: %w", name, err)
		}
		all[name] = text
	}
	return all, nil
}

// request returns the call of a step, and what makes its header lines: they are made
// when the request is sent, with the token and the secrets of that time.
func (c *client) request(s *step, more values) (providers.Call, func(token string) (http.Header, error), error) {
	filled, err := c.values(more)
	if err != nil {
		return providers.Call{}, nil, err
	}
	call, err := s.Request.call(filled)
	if err != nil {
		return call, nil, asAuth(err)
	}
	return call, func(token string) (http.Header, error) {
		filled, err := c.values(more)
		if err != nil {
			return nil, err
		}
		filled[tokenName] = token
		header, err := s.Request.header(filled)
		return header, asAuth(err)
	}, nil
}

// asAuth returns the error for a secret that does not fit its place.
func asAuth(err error) error {
	if err == nil {
		return nil
	}
	return providers.Errorf(providers.ReasonAuth, "%w", err)
}

// send sends the request of a step and passes the answer to parse.
func (c *client) send(ctx context.Context, s *step, more values, large bool, parse func(providers.Answer) error) error {
	call, header, err := c.request(s, more)
	if err != nil {
		return err
	}
	call.Parse, call.Large = parse, large
	if c.tokens != nil {
		return c.tokens.DoWith(ctx, call, header)
	}
	call.Authorize = func() (http.Header, error) { return header("") }
	return c.http.Do(ctx, call)
}

// login requests a token, see [kit.TokenOptions]. There are no refresh tokens.
func (c *client) login(ctx context.Context, _ string) (token kit.Token, err error) {
	call, header, err := c.request(&c.Token.Step, nil)
	if err != nil {
		return kit.Token{}, err
	}
	call.Login = true
	call.Authorize = func() (http.Header, error) { return header("") }
	call.Parse = func(a providers.Answer) (err error) {
		token, err = c.Token.parse(c.recipe, a)
		return err
	}
	return token, c.http.Do(ctx, call)
}

// parse returns the token in an answer.
func (t *tokenStep) parse(r *recipe, a providers.Answer) (token kit.Token, err error) {
	body, err := t.Step.decode(r, tokenName, a)
	if err != nil {
		return token, err
	}
	text, err := body.one("token.token", t.token)
	if err != nil {
		return token, err
	}
	var ok bool
	if token.Access, ok = text.(string); !ok || token.Access == "" {
		return token, body.errorf("token.token", "is %s, not a token", kindOf(text))
	}
	if t.expiresIn == nil {
		return token, nil
	}
	life, err := body.one("token.expires_in", t.expiresIn)
	if err != nil || life == nil {
		return token, err
	}
	if token.ExpiresIn, err = amount(life, 1); err != nil {
		return token, body.errorf("token.expires_in", "%s", err)
	}
	return token, nil
}

// body is a decoded answer.
type body struct {
	root   any
	answer providers.Answer
}

// decode returns the body of a success. For any other answer it returns the error that
// the answer reports: by its status if that is an error, else as the expressions say.
func (s *step) decode(r *recipe, path string, a providers.Answer) (body, error) {
	root, err := formats[s.Format](a.Body)
	b := body{root, a}
	if err == nil || !a.OK() {
		if refused := s.refusal(r, path, b, err == nil); refused != nil {
			return b, refused
		}
	}
	if err != nil {
		return b, b.fault(path+".format", fmt.Sprintf("the body is not the %s that the recipe expects: %s", s.Format, err))
	}
	if err := kit.Whole(a.Status); err != nil {
		return b, err
	}
	return b, nil
}

// refusal returns the error that an answer reports; nil for a success. An expression
// that fails counts for a success only: a status that is an error is clear enough.
func (s *step) refusal(r *recipe, path string, b body, decoded bool) error {
	refusal := kit.Refusal{Provider: r.Name}
	if !b.answer.OK() {
		refusal.Reason = providers.ReasonOfStatus(b.answer.Status)
	}
	evaluate := func(name string, p *program, read func(output any) error) error {
		if p == nil || !decoded {
			return nil
		}
		outputs, err := p.outputs(b.root, len(b.answer.Body), 1)
		if err == nil && len(outputs) > 0 {
			err = read(outputs[0])
		}
		if err == nil || !b.answer.OK() {
			return nil
		}
		return b.fault(path+"."+name, err.Error())
	}
	if err := evaluate("error", s.errors, func(output any) error { return describe(&refusal, output) }); err != nil {
		return err
	}
	if err := evaluate("rate_limited", s.rateLimited, func(output any) error {
		if output == true {
			refusal.Reason = providers.ReasonRateLimited
		}
		return nil
	}); err != nil || refusal.Reason == "" {
		return err
	}
	e := refusal.Error(b.answer)
	if r.RetryAfter != nil {
		e.RetryAfter = r.RetryAfter.after(b.answer.Header, time.Now())
	}
	return e
}

// describe adds to refusal the output of `error`: a text, or an object of message, code
// and reason. A status that is an error has decided the reason already.
func describe(refusal *kit.Refusal, output any) error {
	reason := providers.ReasonBadResponse
	if object, ok := output.(map[string]any); ok {
		for key, value := range object {
			text, ok := scalarText(value)
			switch {
			case !ok:
				return fmt.Errorf("%s is %s, not a text", key, kindOf(value))
			case value == nil:
			case key == "message":
				refusal.Text = text
			case key == "code":
				refusal.Code = text
			case key == "reason" && slices.Contains(providers.Reasons(), providers.Reason(text)):
				reason = providers.Reason(text)
			case key == "reason":
				return fmt.Errorf("the reason %q is not known", text)
			default:
				return fmt.Errorf("the key %s is not known: an error has message, code and reason", key)
			}
		}
	} else if text, ok := scalarText(output); ok && output != nil {
		refusal.Text = text
	}
	if refusal.Reason == "" {
		refusal.Reason = reason
	}
	return nil
}

// after returns how long the header of an answer asks to wait; 0 if it does not say.
func (h *hint) after(header http.Header, now time.Time) time.Duration {
	seconds, err := strconv.ParseFloat(strings.TrimSpace(header.Get(h.Header)), 64)
	if err != nil || !(seconds > 0 && seconds < maxUnix) {
		return 0
	}
	if h.As == asSeconds {
		return time.Duration(seconds * float64(time.Second))
	}
	// The provider's clock made the time, so it is read by that clock.
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date
	}
	return max(0, time.UnixMilli(int64(seconds*1000)).Sub(now))
}

// one returns the only output of an expression; nil if it has none.
func (b body) one(path string, p *program) (any, error) {
	outputs, err := p.outputs(b.root, len(b.answer.Body), 1)
	switch {
	case err != nil:
		return nil, b.fault(path, err.Error())
	case len(outputs) == 0:
		return nil, nil
	}
	return outputs[0], nil
}

// errorf returns an error about the expression at path.
func (b body) errorf(path, format string, args ...any) error {
	return b.fault(path, fmt.Sprintf(format, args...))
}

// fault returns an error that says which expression does not fit, and what the answer
// looks like without its values.
func (b body) fault(path, problem string) error {
	kind, _, err := mime.ParseMediaType(b.answer.Header.Get("Content-Type"))
	if err != nil {
		kind = "no content type"
	}
	form := shape(b.root, b.answer, 0)
	if b.root == nil {
		form = fmt.Sprintf("%d bytes", len(b.answer.Body))
	}
	return providers.Errorf(providers.ReasonBadResponse, "%s: %s (HTTP status %d, %s; body: %s)",
		path, b.answer.Quote(problem, maxProblem), b.answer.Status, b.answer.Quote(kind, maxShapeKey), form)
}

// maxProblem bounds what an error says about an answer, in characters.
const maxProblem = 300
