package yeastarsim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

const formType = "application/x-www-form-urlencoded"

var loginForm = url.Values{"grant_type": {"pp_credentials"}, "client_id": {"abc"}, "client_secret": {"xyz"}}

func do(s *Server, method, path, contentType, authorization, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("User-Agent", "OpenAPI")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func postToken(s *Server, form url.Values) *httptest.ResponseRecorder {
	return do(s, http.MethodPost, TokenPath, formType, "", form.Encode())
}

func getBalance(s *Server, token string) *httptest.ResponseRecorder {
	return do(s, http.MethodGet, BalancePath, "", "Bearer "+token, "")
}

type granted struct {
	ExpiresIn    any
	RefreshToken string
	Token        string
	TokenHead    string
}

func grantedBy(t *testing.T, w *httptest.ResponseRecorder) granted {
	t.Helper()
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	var body struct{ Result granted }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
	return body.Result
}

func login(t *testing.T, s *Server) granted {
	t.Helper()
	return grantedBy(t, postToken(s, loginForm))
}

func refresh(s *Server, token string) *httptest.ResponseRecorder {
	return postToken(s, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

func TestBalanceIsTheDocumentedSample(t *testing.T) {
	s := New(Options{Balance: "675.24"})
	w := getBalance(s, login(t, s).Token)
	want := strings.Replace(SampleBalance, "85fa7686fa9f8a090c937bad50f565ad", strings.Repeat("0", 31)+"2", 1)
	assert.Equal(t, want, w.Body.String())
	assert.Equal(t, Counters{Logins: 1, BalanceReads: 1, Requests: 2}, s.Counters())
}

func TestTokenRequests(t *testing.T) {
	form := func(change func(url.Values)) string {
		values := url.Values{}
		for k, v := range loginForm {
			values[k] = v
		}
		change(values)
		return values.Encode()
	}
	for _, test := range []struct {
		name, contentType, body string
		status                  int
		want                    string
	}{
		{"a form", formType, loginForm.Encode(), 200, `"code":"success"`},
		{"a form with a character set", formType + "; charset=utf-8", loginForm.Encode(), 200, `"code":"success"`},
		{
			"JSON instead of a form", "application/json",
			`{"grant_type":"pp_credentials","client_id":"abc","client_secret":"xyz"}`, 400,
			`"detailMessage":"grant_type must not be blank"`,
		},
		{"no content type", "", loginForm.Encode(), 400, `"result":{"field":"grant_type","tag":"required"}`},
		{"a broken form", formType, "%zz", 400, `"code":"parameter_validation_failed"`},
		{"no grant", formType, form(func(v url.Values) { v.Del("grant_type") }), 400, `grant_type must not be blank`},
		{
			"a wrong grant", formType, form(func(v url.Values) { v.Set("grant_type", "password") }), 400,
			`"code":"unsupported_grant_type"`,
		},
		{"no client id", formType, form(func(v url.Values) { v.Del("client_id") }), 400, `client_id must not be blank`},
		{"a wrong client id", formType, form(func(v url.Values) { v.Set("client_id", "a") }), 401, `"code":"invalid_client"`},
		{"no secret", formType, form(func(v url.Values) { v.Del("client_secret") }), 400, `client_secret must not be blank`},
		{"a wrong secret", formType, form(func(v url.Values) { v.Set("client_secret", "a") }), 401, `"code":"invalid_client"`},
		{"an unknown refresh token", formType, "grant_type=refresh_token&refresh_token=a", 401, `"code":"invalid_refresh_token"`},
		{"no refresh token", formType, "grant_type=refresh_token", 400, `refresh_token must not be blank`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := New(Options{ClientID: "abc", ClientSecret: "xyz"})
			w := do(s, http.MethodPost, TokenPath, test.contentType, "", test.body)
			assert.Equal(t, test.status, w.Code)
			assert.Contains(t, w.Body.String(), test.want)
		})
	}
}

func TestMultipartIsAccepted(t *testing.T) {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for k, v := range loginForm {
		require.NoError(t, w.WriteField(k, v[0]))
	}
	require.NoError(t, w.Close())
	answer := do(New(Options{}), http.MethodPost, TokenPath, w.FormDataContentType(), "", body.String())
	assert.Equal(t, http.StatusOK, answer.Code, answer.Body)
}

func TestSecretsInTheQueryAreNotRead(t *testing.T) {
	w := do(New(Options{}), http.MethodPost, TokenPath+"?"+loginForm.Encode(), formType, "", "")
	assert.Equal(t, http.StatusBadRequest, w.Code)
}

func TestUserAgentIsRequired(t *testing.T) {
	for _, agent := range []string{"", "Go-http-client/1.1"} {
		r := httptest.NewRequest(http.MethodGet, BalancePath, nil)
		r.Header.Set("User-Agent", agent)
		w := httptest.NewRecorder()
		New(Options{}).ServeHTTP(w, r)
		assert.Equal(t, http.StatusBadRequest, w.Code)
		assert.Contains(t, w.Body.String(), "User-Agent must not be blank")
	}
}

func TestOtherRoutes(t *testing.T) {
	s := New(Options{})
	assert.Equal(t, http.StatusNotFound, do(s, http.MethodGet, "/", "", "", "").Code)
	assert.Equal(t, http.StatusMethodNotAllowed, do(s, http.MethodGet, TokenPath, "", "", "").Code)
	assert.Equal(t, http.StatusUnauthorized, do(s, http.MethodGet, BalancePath, "", "", "").Code)
	assert.Equal(t, Counters{BalanceReads: 1, Requests: 3}, s.Counters())
}

func TestTokensAreLikeTheDocumentedSample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		parts := strings.Split(login(t, s).Token, ".")
		require.Len(t, parts, 3)
		header, err := base64.RawURLEncoding.DecodeString(parts[0])
		require.NoError(t, err)
		assert.JSONEq(t, `{"alg":"HS256","typ":"JWT"}`, string(header))
		claims, err := base64.RawURLEncoding.DecodeString(parts[1])
		require.NoError(t, err)
		exp := strconv.FormatInt(time.Now().Add(30*time.Minute).Unix(), 10)
		assert.JSONEq(t, `{"scope":["all"],"exp":`+exp+`,"token_type":"openapi","jti":"1","client_id":"abc"}`, string(claims))
	})
}

func TestLifeOfTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{AccessLife: 5 * time.Second, RefreshLife: time.Minute})
		first := login(t, s)
		assert.Equal(t, "5", first.ExpiresIn)
		time.Sleep(5*time.Second - 1)
		assert.Equal(t, http.StatusOK, getBalance(s, first.Token).Code)
		time.Sleep(time.Nanosecond)
		assert.Equal(t, http.StatusUnauthorized, getBalance(s, first.Token).Code)

		second := grantedBy(t, refresh(s, first.RefreshToken))
		assert.Equal(t, http.StatusOK, getBalance(s, second.Token).Code)
		assert.Equal(t, http.StatusUnauthorized, refresh(s, first.RefreshToken).Code, "used up")
		time.Sleep(time.Minute)
		assert.Equal(t, http.StatusUnauthorized, refresh(s, second.RefreshToken).Code, "expired")

		s.Change(func(o *Options) { o.AccessLife, o.KeepRefreshToken = 0, true })
		third := login(t, s)
		assert.Equal(t, "1800", third.ExpiresIn)
		assert.Equal(t, third.RefreshToken, grantedBy(t, refresh(s, third.RefreshToken)).RefreshToken)
		assert.Equal(t, third.RefreshToken, grantedBy(t, refresh(s, third.RefreshToken)).RefreshToken)
		s.Change(func(o *Options) { o.RefuseRefresh = true })
		assert.Equal(t, http.StatusUnauthorized, refresh(s, third.RefreshToken).Code)
		assert.Equal(t, Counters{Logins: 2, Refreshes: 6, BalanceReads: 3, Requests: 11}, s.Counters())
	})
}

func TestExpireTokens(t *testing.T) {
	s := New(Options{})
	token := login(t, s)
	s.ExpireTokens()
	assert.Equal(t, http.StatusUnauthorized, getBalance(s, token.Token).Code)
	s.ExpireRefreshTokens()
	assert.Equal(t, http.StatusUnauthorized, refresh(s, token.RefreshToken).Code)
}

func TestReuseToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{ReuseToken: true})
		first := login(t, s)
		time.Sleep(20 * time.Minute)
		second := login(t, s)
		assert.Equal(t, first.Token, second.Token)
		assert.Equal(t, "600", second.ExpiresIn)
		time.Sleep(10 * time.Minute)
		assert.NotEqual(t, first.Token, login(t, s).Token)
	})
}

func TestSingleToken(t *testing.T) {
	s := New(Options{})
	first, second := login(t, s), login(t, s)
	assert.Equal(t, http.StatusOK, getBalance(s, first.Token).Code)
	s.Change(func(o *Options) { o.SingleToken = true })
	third := login(t, s)
	assert.Equal(t, http.StatusUnauthorized, getBalance(s, first.Token).Code)
	assert.Equal(t, http.StatusUnauthorized, getBalance(s, second.Token).Code)
	assert.Equal(t, http.StatusOK, getBalance(s, third.Token).Code)
}

func TestSpellingsOfATokenAnswer(t *testing.T) {
	for want, form := range map[any]ExpiresIn{
		"1800": ExpiresInString, 1800.0: ExpiresInNumber, "soon": ExpiresInUnreadable, "1": ExpiresInSmall,
	} {
		assert.Equal(t, want, login(t, New(Options{ExpiresIn: form, AccessLife: 30*time.Minute + 500*time.Millisecond})).ExpiresIn)
	}
	for want, head := range map[string]TokenHead{"Bearer ": TokenHeadSpace, "Bearer": TokenHeadBare, "": TokenHeadEmpty} {
		assert.Equal(t, want, login(t, New(Options{TokenHead: head})).TokenHead)
	}
}

func TestAuthorizationIsExact(t *testing.T) {
	s := New(Options{})
	token := login(t, s).Token
	for _, authorization := range []string{token, "Bearer  " + token, "Bearer", "Basic " + token, "Bearer " + token + "x"} {
		assert.Equal(t, http.StatusUnauthorized, do(s, http.MethodGet, BalancePath, "", authorization, "").Code)
	}
}

func TestErrors(t *testing.T) {
	const id = `"requestId":"00000000000000000000000000000001"`
	for _, test := range []struct {
		name   string
		form   ErrorForm
		place  ErrorStatus
		status int
		body   string
	}{
		{
			"envelope", ErrorEnvelope, StatusHTTP, 401,
			`{"code":"invalid_token","detailMessage":"Access token expired",` + id + `,"result":null,"status":401}`,
		},
		{
			"status in the envelope only", ErrorEnvelope, StatusField, 200,
			`{"code":"invalid_token","detailMessage":"Access token expired",` + id + `,"result":null,"status":401}`,
		},
		{
			"code only", ErrorEnvelope, StatusCode, 200,
			`{"code":"invalid_token","detailMessage":"Access token expired",` + id + `,"result":null,"status":200}`,
		},
		{"OAuth", ErrorOAuth, StatusHTTP, 401, SampleOAuth},
		{"OAuth with HTTP 200", ErrorOAuth, StatusField, 200, SampleOAuth},
		{
			"HTML", ErrorHTML, StatusHTTP, 401,
			"<html>\n<head><title>401 Unauthorized</title></head>\n<body>Access token expired</body>\n</html>\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := getBalance(New(Options{ErrorForm: test.form, ErrorStatus: test.place}), "gone")
			assert.Equal(t, test.status, w.Code)
			assert.Equal(t, test.body, w.Body.String())
		})
	}
}

func TestFaults(t *testing.T) {
	const date = "Sat, 01 Jan 2000 00:01:30 GMT" // A bubble's time starts at midnight.
	for _, test := range []struct {
		name       string
		fault      Fault
		status     int
		retryAfter string
		body       string
	}{
		{"forbidden", Fault{Status: 403}, 403, "", `"code":"forbidden"`},
		{"unavailable", Fault{Status: 503}, 503, "", `"code":"service_unavailable"`},
		{"unavailable with a time", Fault{Status: 503, RetryAfter: 3 * time.Second}, 503, "3", `"status":503`},
		{"429 in seconds", Fault{Status: 429, RetryAfter: 1500 * time.Millisecond}, 429, "2", `"Too many requests."`},
		{"429 as a date", Fault{Status: 429, RetryAfter: 90 * time.Second, Hint: simulate.HintDate}, 429, date, `"Too many requests."`},
		{
			"429 in the body", Fault{Status: 429, RetryAfter: 7 * time.Second, Hint: simulate.HintBody}, 429, "",
			`Please try again in 7 second(s).`,
		},
		{"429 without a time", Fault{Status: 429, Hint: simulate.HintNone}, 429, "", `"detailMessage":"Too many requests."`},
		{"a raw body", Fault{Body: SampleBalance}, 200, "", SampleBalance},
		{"a raw 502", Fault{Status: 502, Body: "<html>", ContentType: "text/html"}, 502, "", "<html>"},
		{"a raw 429", Fault{Status: 429, Body: "{}", RetryAfter: 4 * time.Second}, 429, "4", "{}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Options{})
				token := login(t, s).Token
				s.Fail(BalancePath, test.fault)
				w := getBalance(s, token)
				assert.Equal(t, test.status, w.Code)
				assert.Equal(t, test.retryAfter, w.Header().Get("Retry-After"))
				assert.Contains(t, w.Body.String(), test.body)
				login(t, s)

				s.Fail(BalancePath, Fault{})
				assert.Equal(t, http.StatusOK, getBalance(s, token).Code)
			})
		})
	}
}

func TestFaultsOfEveryPathAndForATime(t *testing.T) {
	s := New(Options{})
	token := login(t, s).Token
	s.Fail("", Fault{Status: 500, Times: 2})
	s.Fail(TokenPath, Fault{Status: 403})
	assert.Equal(t, 403, postToken(s, loginForm).Code)
	assert.Equal(t, 500, getBalance(s, token).Code)
	assert.Equal(t, 500, getBalance(s, token).Code)
	assert.Equal(t, 200, getBalance(s, token).Code)
}

func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Quota: simulate.Quota{Requests: 1, Per: time.Second, Burst: 2}})
		token := login(t, s).Token
		assert.Equal(t, 200, getBalance(s, token).Code)
		w := getBalance(s, token)
		assert.Equal(t, 429, w.Code)
		assert.Equal(t, "1", w.Header().Get("Retry-After"))
		assert.Equal(t, 1, s.Violations())
		for range 5 {
			time.Sleep(time.Second)
			assert.Equal(t, 200, getBalance(s, token).Code)
		}
		time.Sleep(time.Minute)
		assert.Equal(t, 200, getBalance(s, token).Code)
		assert.Equal(t, 200, getBalance(s, token).Code)
		assert.Equal(t, 429, getBalance(s, token).Code)
		assert.Equal(t, 2, s.Violations())
	})
}

func TestBalanceIsSentAsItStands(t *testing.T) {
	s := New(Options{})
	token := login(t, s).Token
	for _, balance := range []string{"-3.5", `"675.24"`, "0", "null"} {
		s.Change(func(o *Options) { o.Balance = balance })
		assert.Contains(t, getBalance(s, token).Body.String(), `"result":{"accountBalance":`+balance+`}`)
	}
}

func TestDemoBalanceFallsAndIsToppedUp(t *testing.T) {
	last, err := strconv.ParseFloat(demoBalance(0), 64)
	require.NoError(t, err)
	assert.Equal(t, demoTop, last) //nolint:testifylint // The very number is meant.
	topUps := 0
	for elapsed := time.Second; elapsed <= 2*demoPeriod; elapsed += time.Second {
		balance, err := strconv.ParseFloat(demoBalance(elapsed), 64)
		require.NoError(t, err)
		assert.Positive(t, balance)
		if balance > last {
			topUps++
		}
		last = balance
	}
	assert.Equal(t, 2, topUps)
}

func TestOversizedBodyIsRefused(t *testing.T) {
	w := do(New(Options{}), http.MethodPost, TokenPath, formType, "", strings.Repeat("a", maxBody+1))
	assert.Equal(t, http.StatusBadRequest, w.Code)
}

func TestConcurrentUse(t *testing.T) {
	s := New(Options{})
	server := httptest.NewServer(s)
	defer server.Close()
	token := login(t, s).Token
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			s.Change(func(o *Options) { o.Balance = strconv.Itoa(i) })
			s.Fail(BalancePath, Fault{Status: 500, Times: 1})
			postToken(s, loginForm)
			r, err := http.NewRequest(http.MethodGet, server.URL+BalancePath, nil)
			if !assert.NoError(t, err) {
				return
			}
			r.Header.Set("User-Agent", "OpenAPI")
			r.Header.Set("Authorization", "Bearer "+token)
			answer, err := http.DefaultClient.Do(r)
			if assert.NoError(t, err) {
				_, err = io.Copy(io.Discard, answer.Body)
				assert.NoError(t, err)
				assert.NoError(t, answer.Body.Close())
			}
			_, _ = s.Counters(), s.Violations()
		})
	}
	group.Wait()
	assert.Equal(t, 17, s.Counters().Requests)
}
