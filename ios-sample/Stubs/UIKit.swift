// A stand-in for the part of UIKit that app and HearpackAudio use, for the type check on machines without it. Compile-only.
@_exported import Foundation

@MainActor public class UIApplication: NSObject {
    public class var shared: UIApplication { fatalError() }  // UIApplication.sharedApplication
    public var isIdleTimerDisabled: Bool { get { false } set {} }  // UIApplication.idleTimerDisabled
    public nonisolated static var didEnterBackgroundNotification: Notification.Name { Notification.Name("background") }  // UIApplicationDidEnterBackgroundNotification
    public nonisolated static var didBecomeActiveNotification: Notification.Name { Notification.Name("active") }  // UIApplicationDidBecomeActiveNotification
}

@MainActor public enum UIAccessibility {
    public struct Notification: Sendable {
        public static let announcement = Notification()  // UIAccessibilityAnnouncementNotification
    }
    public static func post(notification: Notification, argument: Any?) {}  // header UIAccessibility
}
