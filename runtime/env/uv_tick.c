/* uv_tick.c - the tick that interrupts: a timer of the system whose signal goes to one thread.
 *
 * - The first tick of a process takes a real-time signal that nobody has a handler for; all envs share it.
 * - Each env has a timer of its own, made for the thread that starts it.
 * - The last env that goes gives the signal back: the handler may lie in a library that is unloaded then.
 * - No signal is free, or no timer left: the tick never comes. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "env/uv_impl.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid /* older C libraries have the member and lack the name */
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int signal_number; /* 0: not taken */
static unsigned user_count;

static void on_tick(int number, siginfo_t *info, void *context) {
  (void)number;
  (void)context;
  if (info->si_code != SI_TIMER) return;
  int before = errno;
  const struct holt_env *env = info->si_value.sival_ptr;
  env->tick_cb(env->tick_arg);
  errno = before;
}

/* With the lock. False when every signal has its use. */
static bool take_signal(void) {
  struct sigaction ours = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
  sigfillset(&ours.sa_mask);
  for (int i = SIGRTMIN + 3; signal_number == 0 && i < SIGRTMAX; i++) {
    struct sigaction theirs;
    if (sigaction(i, NULL, &theirs) != 0 || theirs.sa_handler != SIG_DFL) continue;
    if (sigaction(i, &ours, NULL) == 0) signal_number = i;
  }
  return signal_number != 0;
}

static void give_back_signal(void) {
  struct sigaction none = {.sa_handler = SIG_IGN}; /* throws away what may still be on its way */
  sigaction(signal_number, &none, NULL);
  none.sa_handler = SIG_DFL;
  sigaction(signal_number, &none, NULL);
  signal_number = 0;
}

static bool open_tick(struct holt_uv *uv) {
  pthread_mutex_lock(&lock);
  if (take_signal()) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signal_number};
    event.sigev_value.sival_ptr = &uv->env;
    event.sigev_notify_thread_id = gettid();
    uv->has_tick = timer_create(CLOCK_MONOTONIC, &event, &uv->tick) == 0;
    if (uv->has_tick)
      user_count++;
    else if (user_count == 0)
      give_back_signal();
  }
  pthread_mutex_unlock(&lock);
  return uv->has_tick;
}

void holt__uv_tick(struct holt_env *env, uint64_t interval_ms) {
  struct holt_uv *uv = (struct holt_uv *)env;
  if (!uv->has_tick && (interval_ms == 0 || uv->is_closing || !open_tick(uv))) return;
  struct timespec every = {.tv_sec = (time_t)(interval_ms / 1000),
                           .tv_nsec = (long)(interval_ms % 1000) * 1000000};
  struct itimerspec spec = {.it_interval = every, .it_value = every};
  timer_settime(uv->tick, 0, &spec, NULL);
}

void holt__uv_tick_free(struct holt_uv *uv) {
  if (!uv->has_tick) return;
  pthread_mutex_lock(&lock);
  timer_delete(uv->tick);
  uv->has_tick = false;
  if (--user_count == 0) give_back_signal();
  pthread_mutex_unlock(&lock);
}
