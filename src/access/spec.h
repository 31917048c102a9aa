/* spec.h - what an account is to be, checked and laid over a row. Internal to the room. */
#ifndef SL_ACCESS_SPEC_H
#define SL_ACCESS_SPEC_H

#include "access/access_int.h"

/* Lays what is set over the row, whose kind, name ("" for a new one) and texts are set. The row
 * borrows from spec and arena. SL_EINVAL names the field. Password and user are left to others. */
sl_status spec_lay(const llm_account_spec *s, int64_t now_s, sl_arena *arena, access_account *row,
                   sl_err *err);
sl_status spec_check_password(const char *password, sl_err *err);

#endif
