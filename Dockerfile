# docker build -t balance_exporter \
#   --build-arg VERSION=$(git describe --tags --always) \
#   --build-arg REVISION=$(git rev-parse HEAD) \
#   --build-arg BRANCH=$(git rev-parse --abbrev-ref HEAD) \
#   --build-arg BUILD_USER=$(id -un) \
#   --build-arg BUILD_DATE=$(date -u +%Y%m%d-%H:%M:%S) .

# The builder runs on the build platform and cross-compiles for the target platform.
FROM --platform=$BUILDPLATFORM golang:1.26 AS builder
WORKDIR /src

# Modules first, because they change less often than the source.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=unknown REVISION=unknown BRANCH=unknown BUILD_USER=docker BUILD_DATE=unknown
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -o /out/balance_exporter -ldflags "\
    -s -w \
    -X github.com/prometheus/common/version.Version=$VERSION \
    -X github.com/prometheus/common/version.Revision=$REVISION \
    -X github.com/prometheus/common/version.Branch=$BRANCH \
    -X github.com/prometheus/common/version.BuildUser=$BUILD_USER \
    -X github.com/prometheus/common/version.BuildDate=$BUILD_DATE" . \
 && mkdir /out/state

FROM scratch
ARG VERSION=unknown REVISION=unknown
COPY --from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=builder /out/balance_exporter /balance_exporter
# The volume gets its owner from this directory.
COPY --from=builder --chown=65532:65532 /out/state /var/lib/balance_exporter
USER 65532:65532
VOLUME /var/lib/balance_exporter
EXPOSE 10062
# Uses BALANCE_EXPORTER_WEB_LISTEN_ADDRESS if the container sets it.
HEALTHCHECK --interval=30s --timeout=10s CMD ["/balance_exporter", "--healthcheck"]
LABEL org.opencontainers.image.title="balance_exporter" \
    org.opencontainers.image.description="Prometheus exporter for balances and rates of prepaid telecom accounts" \
    org.opencontainers.image.source="https://github.com/balance-exporter/balance_exporter" \
    org.opencontainers.image.documentation="https://github.com/balance-exporter/balance_exporter#readme" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
ENTRYPOINT ["/balance_exporter"]
