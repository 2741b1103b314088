/* What NATS gives on this machine, for the table of scripts/bench, which builds and runs this where
 * nats-server and libnats are installed.
 *
 *   beside_nats core URL       publish to subscribe, and request to reply, two connections, one server
 *   beside_nats stream URL     JetStream, three replicas in memory: key-value puts, one and 64 outstanding */
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIZE = 64, EVENTS = 1000000, REQUESTS = 10000, PUTS = 20000, OUTSTANDING = 64 };

static const char value[SIZE];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void must(natsStatus status, const char *what) {
  if (status == NATS_OK) return;
  fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(status));
  exit(1);
}

static void tell(const char *workload, const char *metric, double figure, const char *unit) {
  printf("{\"workload\":\"%s\",\"metric\":\"%s\",\"value\":%.1f,\"unit\":\"%s\"}\n", workload, metric, figure,
         unit);
}

/* A request must not wait for the client's flusher. */
static natsConnection *connect_to(const char *url, bool at_once) {
  natsOptions *options;
  natsConnection *connection;
  must(natsOptions_Create(&options), "options");
  natsOptions_SetURL(options, url);
  natsOptions_SetSendAsap(options, at_once);
  must(natsConnection_Connect(&connection, options), url);
  natsOptions_Destroy(options);
  return connection;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void tell_median(const char *workload, double *times, int count) {
  qsort(times, (size_t)count, sizeof *times, ascending);
  tell(workload, "p50", times[count / 2] * 1e6, "us");
}

/* --- One server ------------------------------------------------------------------------------------------
 */

static volatile long received;

static void on_event(natsConnection *connection, natsSubscription *sub, natsMsg *message, void *arg) {
  (void)connection, (void)sub, (void)arg;
  received++;
  natsMsg_Destroy(message);
}

static void on_request(natsConnection *connection, natsSubscription *sub, natsMsg *message, void *arg) {
  (void)sub, (void)arg;
  natsConnection_Publish(connection, natsMsg_GetReply(message), natsMsg_GetData(message), SIZE);
  natsMsg_Destroy(message);
}

static void core(const char *url) {
  natsConnection *source = connect_to(url, false), *sink = connect_to(url, false);
  natsSubscription *sub;
  must(natsConnection_Subscribe(&sub, sink, "events", on_event, NULL), "subscribe");
  natsSubscription_SetPendingLimits(sub, -1, -1);
  must(natsConnection_Flush(sink), "flush");
  double began = now();
  for (long i = 0; i < EVENTS; i++) must(natsConnection_Publish(source, "events", value, SIZE), "publish");
  must(natsConnection_FlushTimeout(source, 60000), "flush");
  while (received < EVENTS && now() - began < 60) nats_Sleep(1);
  tell("nats_core_64B", "received", (double)received / (now() - began), "events/s");

  static double times[REQUESTS];
  natsConnection *asking = connect_to(url, true), *answering = connect_to(url, true);
  must(natsConnection_Subscribe(&sub, answering, "price", on_request, NULL), "subscribe");
  must(natsConnection_Flush(answering), "flush");
  for (int i = 0; i < REQUESTS; i++) {
    natsMsg *reply;
    double asked = now();
    must(natsConnection_Request(&reply, asking, "price", value, SIZE, 2000), "request");
    times[i] = now() - asked;
    natsMsg_Destroy(reply);
  }
  tell_median("nats_request_64B", times, REQUESTS);
}

/* --- Three servers ---------------------------------------------------------------------------------------
 */

static void stream(const char *url) {
  natsConnection *connection = connect_to(url, false);
  jsOptions options;
  jsCtx *js;
  kvConfig config;
  kvStore *kv = NULL;
  jsOptions_Init(&options);
  options.PublishAsync.MaxPending = OUTSTANDING;
  options.PublishAsync.StallWait = 10000;
  must(natsConnection_JetStream(&js, connection, &options), "JetStream");
  kvConfig_Init(&config);
  config.Bucket = "BESIDE";
  config.Replicas = 3;
  config.History = 1;
  config.StorageType = js_MemoryStorage;
  natsStatus status = NATS_ERR;
  for (double began = now(); status != NATS_OK && now() - began < 30; nats_Sleep(200)) /* they elect first */
    status = js_CreateKeyValue(&kv, js, &config);
  must(status, "key-value store of three replicas");

  static double times[PUTS / 10];
  char key[32];
  for (int i = 0; i < PUTS / 10; i++) {
    snprintf(key, sizeof key, "key%d", i % 100);
    double asked = now();
    must(kvStore_Put(NULL, kv, key, value, SIZE), "put");
    times[i] = now() - asked;
  }
  tell_median("jetstream_mem_seq", times, PUTS / 10);

  double began = now();
  jsPubOptions wait = {.MaxWait = 60000};
  for (int i = 0; i < PUTS; i++) {
    snprintf(key, sizeof key, "$KV.BESIDE.key%d", i % 100);
    must(js_PublishAsync(js, key, value, SIZE, NULL), "put");
  }
  must(js_PublishAsyncComplete(js, &wait), "puts");
  tell("jetstream_mem_c64", "puts", PUTS / (now() - began), "ops/s");
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  if (strcmp(argv[1], "core") == 0)
    core(argv[2]);
  else
    stream(argv[2]);
  return 0;
}
