package flolive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/balance-exporter/balance_exporter/providers"
)

// maxPages bounds the pages of one list of balances or offers. A subscriber has a
// few of each.
const maxPages = 20

// refusal is an error with the provider's code, which may be empty.
type refusal struct {
	failure *providers.Error
	code    string
}

func (r *refusal) Error() string { return r.failure.Error() }

// Unwrap returns the error without the code.
func (r *refusal) Unwrap() error { return r.failure }

// codeOf returns the provider's code of an error; empty if there is none.
func codeOf(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.code
	}
	return ""
}

// answered makes call hand a good answer to use, and leaves the provider's code of
// any other in code. The answer is decoded twice: what check gets has secrets masked
// out of it, so that it may be quoted, but a short secret may also be part of a
// value or a key. Values come from the answer as it was sent, and so does the last
// word on whether it is good.
func answered(call *providers.Call, check func(providers.Answer, envelope) *providers.Error, use func(envelope) error) (code *string) {
	code = new(string)
	call.Check = func(a providers.Answer) *providers.Error {
		e, _ := decodeEnvelope(a.Body)
		*code = e.code()
		return check(a, e)
	}
	call.Decode = func(body io.Reader) error {
		text, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		e, err := decodeEnvelope(text)
		if err != nil {
			return err
		}
		if *code = e.code(); *code != "" {
			return check(providers.Answer{Status: http.StatusOK, Body: text}, e)
		}
		return use(e)
	}
	return code
}

// ask sends call with the account's token, and hands a good answer to use. A token
// that is refused is renewed once. The token is that of the moment in which the
// request is sent, for the requests of a fleet may wait longer for their turn than a
// token lives.
func (a *account) ask(ctx context.Context, call providers.Call, use func(envelope) error) error {
	code := answered(&call, check, use)
	for renewed := false; ; {
		*code = "" // of the answer before
		token, err := a.auth.token(ctx)
		if err != nil {
			return err
		}
		ended := false
		call.Authorize = func() (http.Header, error) {
			if token = a.auth.newest(); token == "" {
				ended = true
				return nil, fmt.Errorf("%w: the token has ended meanwhile", providers.ErrNotAsked)
			}
			return a.auth.header(token), nil
		}
		err = send(ctx, a.http, call)
		switch {
		case err == nil:
			a.auth.accepted(token)
			return nil
		case ended:
			continue
		}
		failure := providers.AsError(err)
		if renewed {
			a.auth.fruitless(failure.Reason)
		}
		if renewed || !a.auth.renew(token, failure.Reason) {
			return &refusal{failure: failure, code: *code}
		}
		renewed = true
	}
}

// list asks for a list and calls use with each entry, of all pages. How to ask for
// a page is not documented: it is done as the answer's own count of pages suggests,
// from 0 on, and never on the first request. The list ends early where an answer
// is another page than was asked for, or has nothing in it.
func (a *account) list(ctx context.Context, path string, use func(entry json.RawMessage)) error {
	query := ""
	for number := range maxPages {
		more := false
		err := a.ask(ctx, providers.Call{Path: path, Query: query}, func(e envelope) error {
			entries, err := e.entries()
			if err != nil {
				return err
			}
			at, told := e.page()
			if number > 0 && (!told || at.number != number) {
				return nil
			}
			for _, entry := range entries {
				use(entry)
			}
			more = told && at.number == number && number+1 < at.pages && len(entries) > 0
			query = pageQuery(number+1, at.size)
			return nil
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func pageQuery(number, size int) string {
	if size == 0 {
		return fmt.Sprintf("page=%d", number)
	}
	return fmt.Sprintf("page=%d&size=%d", number, size)
}
