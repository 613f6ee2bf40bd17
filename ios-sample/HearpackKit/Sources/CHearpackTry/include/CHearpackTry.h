// Objective-C's exceptions end a Swift program; AVAudioEngine raises them when a route changes while its graph is built.
#pragma once
#if defined(__APPLE__) && defined(__OBJC__)
#import <Foundation/Foundation.h>

/// Runs a block.
/// Returns nil, or what the exception said that ended it.
NSString *_Nullable hearpack_try(void (NS_NOESCAPE ^_Nonnull block)(void));
#endif
