/* log MODEL: who hears what. */
#include "check.h"

static int heard;

static void listen(void *user_data, awsnet_log_level level, const char *message) {
    CHECK(user_data == &heard && level == AWSNET_LOG_INFO);
    CHECK(strncmp(message, "running on cpu (", 16) == 0);
    heard++;
    awsnet_error error = AWSNET_ERROR_INIT;
    CHECK(awsnet_log_set(NULL, NULL, &error) == AWSNET_STATUS_BUSY); /* not from here */
    CHECK(strcmp(error.message, "callback: expected a call from outside the callback, found one from inside it") == 0);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    OK(awsnet_engine_destroy(make_engine(argv[1], AWSNET_DEVICE_AUTO, 1, 1)));
    OK(awsnet_log_set(listen, &heard, NULL));
    OK(awsnet_engine_destroy(make_engine(argv[1], AWSNET_DEVICE_AUTO, 1, 1)));
    CHECK(heard == 1);
    OK(awsnet_engine_destroy(make_engine(argv[1], AWSNET_DEVICE_CPU, 1, 1))); /* nothing was chosen */
    CHECK(heard == 1);
    OK(awsnet_log_set(NULL, NULL, NULL));
    OK(awsnet_engine_destroy(make_engine(argv[1], AWSNET_DEVICE_AUTO, 1, 1)));
    CHECK(heard == 1);
    return 0;
}
