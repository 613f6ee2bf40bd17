#include "CHearpackTry.h"

#ifdef __APPLE__
NSString *hearpack_try(void (NS_NOESCAPE ^block)(void)) {
    @try {
        block();
        return nil;
    } @catch (NSException *exception) {
        return exception.reason ?: exception.name;
    }
}
#endif
