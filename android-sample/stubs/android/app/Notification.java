package android.app;

import android.graphics.drawable.Icon;
import android.content.Context;

public class Notification {
    public Notification() {}

    public static class Builder {
        public Builder(Context context, String channelId) {}

        public native Builder addAction(Action action);

        public native Notification build();

        public native Builder setContentIntent(PendingIntent intent);

        public native Builder setContentText(CharSequence text);

        public native Builder setContentTitle(CharSequence title);

        public native Builder setOngoing(boolean ongoing);

        public native Builder setSmallIcon(int icon);
    }

    public static class Action {
        Action() {}

        public static class Builder {
            public Builder(Icon icon, CharSequence title, PendingIntent intent) {}

            public native Action build();
        }
    }
}
