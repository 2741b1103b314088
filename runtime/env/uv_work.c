/* uv_work.c - worker jobs on the thread pool of libuv. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "env/uv_impl.h"

struct uv_job {
  uv_work_t request;
  struct holt_uv *uv;
  struct holt_work *work;
};

static void run(uv_work_t *request) {
  struct uv_job *job = request->data;
  job->work->run(job->work->arg);
}

static void after(uv_work_t *request, int status) {
  struct uv_job *job = request->data;
  struct holt_work *work = job->work;
  bool is_silent = job->uv->is_closing;
  (void)status; /* it is never canceled */
  free(job);
  if (is_silent) return;
  work->job = NULL;
  work->done(work->arg);
}

void holt__uv_work(struct holt_env *env, struct holt_work *work) {
  struct holt_uv *uv = (struct holt_uv *)env;
  struct uv_job *job = holt_alloc(sizeof *job);
  HOLT_ASSERT(!uv->is_closing);
  job->uv = uv;
  job->work = work;
  job->request.data = job;
  work->job = job;
  int rc = uv_queue_work(&uv->loop, &job->request, run, after);
  HOLT_ASSERT(rc == 0); /* fails without a work function only */
}
