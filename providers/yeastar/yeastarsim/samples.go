package yeastarsim

// Bodies for tests. The first is printed in the documentation, the others are
// built on its fields. Send one with [Server.Fail].
const (
	// SampleBalance is from
	// https://help.yeastar.com/en/pp-ptr/developer-guide/query-account-balance.html.
	SampleBalance = `{"code":"success","detailMessage":"","requestId":"85fa7686fa9f8a090c937bad50f565ad","result":{"accountBalance":675.24},"status":200}`
	// SampleToken has the fields of
	// https://help.yeastar.com/en/pp-ptr/developer-guide/request-access-token.html.
	SampleToken = `{"code":"success","detailMessage":"","requestId":"0d5c0f1e","result":{"expiresIn":"1799","refreshToken":"eyJ.r.x","token":"eyJ.a.x","tokenHead":"Bearer "},"status":200}`
	// SampleInvalid has the fields of
	// https://help.yeastar.com/en/pp-ptr/developer-guide/response-results.html.
	SampleInvalid = `{"code":"parameter_validation_failed","detailMessage":"grant_type must not be blank","requestId":"7a11","result":{"field":"grant_type","tag":"required"},"status":400}`
	// SampleExpired is an expired access token in the documented envelope.
	SampleExpired = `{"code":"invalid_token","detailMessage":"Access token expired","requestId":"7a12","result":null,"status":401}`
	// SampleOAuth is the same in the form common among token servers.
	SampleOAuth = `{"error":"invalid_token","error_description":"Access token expired"}`
	// SampleOrders has the fields of
	// https://help.yeastar.com/en/pp-ptr/developer-guide/query-order-list.html,
	// which the simulator does not serve.
	SampleOrders = `{"code":"success","detailMessage":"","requestId":"7249dc2422a5b3192c06b00fa77d31a2","result":{"count":117,"pageNo":1,"pageSize":3,"results":[{"id":"1","orderNo":"10001","currencyCode":"USD","orderStatus":"succeed","createTime":1739535307000}],"total":117,"totalPage":39},"status":200}`
)
