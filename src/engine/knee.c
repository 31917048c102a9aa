/* knee.c - see knee.h. */
#include "engine/knee.h"

#include "base/attr.h"
#include "engine/mean.h"

#define STEP_SHARE    (1.0 / 16)
#define FALL_SHARE    0.5 /* what disturbs a step makes it longer: short ones tell more */
#define RISE_SHARE    0.1
#define REQUEST_SHARE (1.0 / 16)
#define SOME_MIN      8    /* decodes: with fewer, what each adds is within the noise */
#define LEAST         0.01 /* of a step of one decode: another one cannot seem to add less */
#define SINGLE_AGE    64   /* machines change their speed */
#define REQUESTS_MAX  1e6

bool knee_wants_single(const knee *k, int decodes)
{
    return decodes >= SOME_MIN && (k->single_ns == 0 || k->single_age >= SINGLE_AGE);
}

void knee_add_step(knee *k, int decodes, double ns)
{
    if (decodes == 1) {
        mean_add(&k->single_ns, ns, ns < k->single_ns ? FALL_SHARE : RISE_SHARE);
        k->single_age = 0;
    }
    if (decodes < SOME_MIN)
        return;
    k->single_age++;
    mean_add(&k->some_ns, ns, STEP_SHARE);
    mean_add(&k->some, decodes, STEP_SHARE);
}

void knee_add_request(knee *k, double prompt, double output, double prompt_ns)
{
    mean_add(&k->prompt, prompt, REQUEST_SHARE);
    mean_add(&k->output, output, REQUEST_SHARE);
    mean_add(&k->prompt_ns, prompt_ns, REQUEST_SHARE);
}

int knee_requests(const knee *k)
{
    double decode = 0, fixed, own;

    if (k->single_ns == 0 || k->output == 0)
        return 0;
    if (k->some > 0)
        decode = (k->some_ns - k->single_ns) / (k->some - 1);
    decode = SL_MAX(decode, LEAST * k->single_ns);
    fixed = k->output * SL_MAX(k->single_ns - decode, 0);
    own = k->prompt * k->prompt_ns + k->output * decode;
    return (int)SL_MAX(SL_MIN((1 / KNEE_FIXED - 1) * fixed / own, REQUESTS_MAX), 1);
}
